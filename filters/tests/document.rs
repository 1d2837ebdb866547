//! A document in one piece is read for its values first and for its text only where no report makes the text
//! needless. What it comes to is what it comes to in pieces, where everything is read as it passes.

use std::io::Write as _;

use proptest::prelude::*;
use weir_filters::decode::Encoding;
use weir_filters::meter::{Meter, Reading, Shape};
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

fn read(operation: Operation, encoding: Encoding, pieces: &[&[u8]], complete: bool) -> Reading {
    let mut meter = Meter::new(operation, Shape::Json, encoding);
    for piece in pieces {
        meter.feed(piece);
    }
    meter.finish(complete, 200, 40)
}

/// Members that matter to some protocol, and some that matter to none.
const MEMBERS: &[&str] = &[
    r#""usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}"#,
    r#""usage":{"input_tokens":7,"output_tokens":5,"cache_read_input_tokens":2}"#,
    r#""usage":{"prompt_tokens":7}"#,
    r#""usage":{"total_tokens":9}"#,
    r#""usage":{"completion_tokens":"5"}"#,
    r#""usage":{"prompt_tokens":7,"completion_tokens":-5}"#,
    r#""usage":{"prompt_tokens":7,"completion_tokens":5.5,"content":"in the report"}"#,
    r#""usage":{"completion_tokens":5"#,
    r#""usage":{}"#,
    r#""usage":null"#,
    r#""usage":"none""#,
    r#""usage":[{"content":"abcdefgh"}]"#,
    r#""timings":{"prompt_n":4,"predicted_n":6}"#,
    r#""usageMetadata":{"promptTokenCount":3,"totalTokenCount":9}"#,
    r#""usageMetadata":{"candidatesTokenCount":4}"#,
    r#""prompt_eval_count":11"#,
    r#""eval_count":13"#,
    r#""eval_count":"x""#,
    r#""choices":[{"index":0,"message":{"role":"assistant","content":"Twelve ascii"},"finish_reason":"stop"}]"#,
    r#""choices":[{"usage":{"completion_tokens":3},"text":"né"}]"#,
    r#""content":[{"type":"text","text":"a \"weir\" \u00e9"},{"type":"thinking","thinking":"多思"}]"#,
    r#""candidates":[{"content":{"parts":[{"text":"ja"},{"functionCall":{}}]},"finishReason":"STOP"}]"#,
    r#""message":{"content":"x","usage":{"output_tokens":2}},"done":true"#,
    r#""response":{"usage":{"output_tokens":8},"output_text":{"text":"four"}}"#,
    r#""error":{"message":"no","content":"why"}"#,
    r#""error":null"#,
    r#""model":"m-1""#,
    r#""model":"m\u002d1""#,
    r#""model":17"#,
    r#""type":"error""#,
    r#""data":[[1,2],[{"text":"deep"}],{}]"#,
    r#""content" "no colon""#,
    r#""a":}"#,
];

/// Operations whose answers are metered in different ways.
const OPERATIONS: &[Operation] = &[
    Operation::OpenAiChat,
    Operation::OpenAiEmbeddings,
    Operation::OpenAiResponses,
    Operation::OpenAiOther,
    Operation::OllamaChat,
    Operation::AnthropicMessages,
    Operation::AnthropicCountTokens,
    Operation::GeminiGenerate,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn a_document_whole_cut_or_followed_by_another_comes_to_the_same_as_in_pieces(
        operation in prop::sample::select(OPERATIONS),
        members in prop::collection::vec(prop::sample::select(MEMBERS), 0..5),
        more in prop::collection::vec(prop::sample::select(MEMBERS), 0..3),
        kept in 0..400_usize,
        size in 1..60_usize,
        complete: bool,
    ) {
        let document = format!("{{\"id\":\"a\",{}}}\n", members.join(","));
        let next = format!("{{{}}}", more.join(","));
        let both = format!("{document}{next}");
        for whole in [&[document.as_bytes()][..], &[document.as_bytes(), next.as_bytes()]] {
            let pieces: Vec<&[u8]> = both.as_bytes()[..whole.concat().len()].chunks(size).collect();
            let expected = read(operation, Encoding::Identity, &pieces, complete);
            prop_assert_eq!(read(operation, Encoding::Identity, whole, complete), expected, "{}", both);
        }
        let cut = &both.as_bytes()[..kept.min(both.len())];
        let pieces: Vec<&[u8]> = cut.chunks(size).collect();
        let expected = read(operation, Encoding::Identity, &pieces, complete);
        prop_assert_eq!(read(operation, Encoding::Identity, &[cut], complete), expected, "{}", both);
    }

    #[test]
    fn a_document_whose_compression_breaks_off_comes_to_the_same_as_in_pieces(
        members in prop::collection::vec(prop::sample::select(MEMBERS), 0..4),
        size in 1..30_usize,
    ) {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        write!(gzip, "{{{}}}", members.join(",")).unwrap();
        let mut packed = gzip.finish().unwrap();
        // The checksum, and then what is no compression at all.
        let at = packed.len() - 8;
        packed[at] ^= 1;
        packed.extend_from_slice(b"not gzip");
        for body in [&packed[..], &packed[..at]] {
            let pieces: Vec<&[u8]> = body.chunks(size).collect();
            let expected = read(Operation::OpenAiChat, Encoding::Gzip, &pieces, false);
            prop_assert_eq!(read(Operation::OpenAiChat, Encoding::Gzip, &[body], false), expected);
        }
    }
}

#[test]
fn text_is_estimated_exactly_where_no_output_was_reported() {
    let content = r#""choices":[{"index":0,"message":{"role":"assistant","content":"sixteen letters!"}}]"#;
    let usage = |input_uncached, output, source| Usage { input_uncached, output, source, ..Usage::default() };
    for (report, expected) in [
        (r#","usage":{"prompt_tokens":7,"completion_tokens":5}"#, usage(7, 5, Source::Upstream)),
        (r#","usage":{"prompt_tokens":7}"#, usage(7, 4, Source::Estimated)),
        (r#","usage":{"prompt_tokens":7,"completion_tokens":"5"}"#, usage(7, 4, Source::Estimated)),
        (r#","usage":{"completion_tokens":0}"#, usage(0, 0, Source::Upstream)),
        (r#","usage":{}"#, usage(10, 4, Source::Estimated)),
        (r#","usage":null"#, usage(10, 4, Source::Estimated)),
        ("", usage(10, 4, Source::Estimated)),
    ] {
        let document = format!("{{{content}{report}}}");
        let (head, tail) = document.as_bytes().split_at(document.len() / 2);
        for pieces in [&[document.as_bytes()][..], &[head, tail]] {
            let reading = read(Operation::OpenAiChat, Encoding::Identity, pieces, true);
            assert_eq!(reading.usage, expected, "{document} in {} pieces", pieces.len());
        }
    }
}

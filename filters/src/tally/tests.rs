//! An event that is read by the one before comes to what it comes to when it is read alone.

use proptest::prelude::*;

use super::*;
use crate::route::Operation;

/// Events with places for text (`~`), numbers (`@`) and filling (`^`).
const SHAPES: &[&str] = &[
    r#"{"id":"c","created":@,"model":"m","choices":[{"index":0,"delta":{"content":"~"},"finish_reason":null}],"usage":null,"obfuscation":"^"}"#,
    r#"{"model":"m","choices":[{"delta":{"content":null,"reasoning_content":"~"}}],"usage":{"prompt_tokens":@,"completion_tokens":@}}"#,
    r#"{"model":"m","choices":[{"delta":{"content":"~","reasoning_content":"~","x":"^"}}]}"#,
    r#"{"model":"m","choices":[],"usage":{"prompt_tokens":@,"total_tokens":@,"prompt_tokens_details":{"cached_tokens":@}}}"#,
    r#"{"model":"n","choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":@,"prompt_tokens":@}}"#,
    r#"{"model":"m","usage":{"prompt_tokens":@,"prompt_tokens":1000000000},"obfuscation":"^"}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":@,"function":{"arguments":"~"}}]}}]}"#,
    r#"{"choices":[{"delta":{"content":"~"},"usage":{"prompt_tokens":@}}],"usage":{"completion_tokens":@}}"#,
    r#"{"choices":[{"text":"~"}],"timings":{"prompt_n":@,"cache_n":@,"predicted_n":@}}"#,
    r#"{"error":{"code":@,"message":"^"},"obfuscation":"^"}"#,
    r#"{"model":"~","usage":{"prompt_tokens":@},"obfuscation":"^"}"#,
    r#"{"usage":{"prompt_tokens":3,"x":"~"},"content":"~","obfuscation" : "^" }"#,
    r#"{"usage":{"prompt_tokens":@},"x":{"usage":{"prompt_tokens":@}}}"#,
    r#"{"usage":{},"content":"~"}"#,
    r#"{"type":"content_block_delta","index":@,"delta":{"type":"text_delta","text":"~"}}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":@}}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":@,"input_tokens":@}}"#,
    r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":@,"output_tokens":@}}}"#,
    r#"{"type":"response.output_text.delta","sequence_number":@,"delta":"~","obfuscation":"^"}"#,
    r#"{"type":"response.completed","response":{"model":"m","usage":{"input_tokens":@,"output_tokens":@}}}"#,
    r#"{"candidates":[{"content":{"parts":[{"text":"~"}]},"index":@}],"usageMetadata":{"promptTokenCount":@,"candidatesTokenCount":@,"x":[{"n":@}]},"modelVersion":"m"}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"x":@}}]}}],"usageMetadata":{"promptTokenCount":@}}"#,
    r#"{"a"content"b":"~","usage":{"prompt_tokens":@}}"#,
    r#"{"obfuscation":"content":"~"}"#,
    r#"["content":"~",@]"#,
    r#"{"content":"~"@}"#,
    r#"{"content":"~","usage":{"prompt_tokens":@}"#,
    r#"{"content":"~"} {"usage":{"prompt_tokens":@}}"#,
];

const TEXTS: &[&str] = &[
    "",
    "",
    "a",
    " the",
    "weir ",
    "ü",
    "用户",
    "\\\"",
    "\\\\",
    "\\n",
    "\\",
    "error",
    "usage",
    "content",
    "tool_calls",
    "obfuscation",
    "\n",
    "\",\"content\":\"x",
    "\"",
    "a rather long piece of text, longer than three words of eight bytes",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "7",
    "42",
    "1500",
    "999999999",
    "1000000000",
    "1000000001",
    "01",
    "1.5",
    "12.0",
    "-3",
    "null",
    "\"5\"",
    "1e2",
    "",
];

fn event() -> impl Strategy<Value = Vec<String>> {
    // The same shape some times, mostly with what is ordinary.
    let text = prop_oneof![3 => prop::sample::select(&TEXTS[..5]), 1 => prop::sample::select(TEXTS)];
    let number = prop_oneof![4 => prop::sample::select(&NUMBERS[..6]), 1 => prop::sample::select(NUMBERS)];
    let fill = (prop::collection::vec(text, 4), prop::collection::vec(number, 6));
    (prop::sample::select(SHAPES), prop::collection::vec(fill, 1..6)).prop_map(|(shape, fills)| {
        let filled = |(texts, numbers): (Vec<&str>, Vec<&str>)| {
            let (mut texts, mut numbers) = (texts.into_iter(), numbers.into_iter());
            let mut event = String::new();
            for part in shape.chars() {
                match part {
                    '~' | '^' => event.push_str(texts.next().unwrap_or("x")),
                    '@' => event.push_str(numbers.next().unwrap_or("5")),
                    other => event.push(other),
                }
            }
            event
        };
        fills.into_iter().map(filled).collect()
    })
}

/// All that a tally knows.
fn state(tally: &Tally) -> String {
    let Tally { counts, rank, document, text, likely, closed, begun, events, invalid, failed, raw, model, .. } = tally;
    let raw = String::from_utf8_lossy(raw);
    format!(
        "{counts:?} {rank:?} {document:?} {text:?} {likely} {closed} {begun} {events} {invalid} {failed} {raw} {model:?}"
    )
}

fn read(tally: &mut Tally, walker: &mut Walker<Want>, data: &str) {
    tally.event(Event { name: b"", data: data.as_bytes(), whole: true }, walker);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn an_event_read_by_another_comes_to_the_same(
        operation in prop::sample::select(&Operation::ALL[..]),
        runs in prop::collection::vec(event(), 1..6),
    ) {
        let dialect = Dialect::of(operation);
        let (mut by_another, mut alone) = (Tally::new(dialect), Tally::new(dialect));
        let mut walker = Walker::new(dialect.wanted, &[]);
        for data in runs.concat() {
            read(&mut by_another, &mut walker, &data);
            alone.stencil.clear();
            read(&mut alone, &mut walker, &data);
            prop_assert_eq!(state(&by_another), state(&alone), "{}", data);
        }
    }
}

#[test]
fn ordinary_events_fit_the_one_before() {
    let events = [
        (Operation::OpenAiChat, 0),
        (Operation::OpenAiChat, 1),
        (Operation::OpenAiChat, 6),
        (Operation::AnthropicMessages, 14),
        (Operation::OpenAiResponses, 18),
        (Operation::GeminiStream, 20),
    ];
    for (operation, shape) in events {
        let dialect = Dialect::of(operation);
        let mut tally = Tally::new(dialect);
        tally.model = Some("m".into());
        let mut walker = Walker::new(dialect.wanted, &[]);
        let filled =
            |text, number, filling| SHAPES[shape].replace('~', text).replace('@', number).replace('^', filling);
        read(&mut tally, &mut walker, &filled("A", "9", "aX9"));
        let mut fits = |data: String| tally.stencil.fit(data.as_bytes(), |_| false).is_some();
        assert!(fits(filled(" weir \\\"", "10", "")), "{shape}");
        assert!(!fits(filled("A", "010", "aX9")), "{shape}");
        assert!(!fits(filled("A", "9", "aX9") + " "), "{shape}");
    }
}

#[test]
fn a_stream_that_never_repeats_stops_making_stencils() {
    let mut tally = Tally::new(Dialect::of(Operation::OpenAiChat));
    tally.model = Some("m".into());
    let mut walker = Walker::new(tally.dialect.wanted, &[]);
    let mut made = 0;
    for event in 0..60 {
        read(&mut tally, &mut walker, &format!("{{\"key{event}\":\"x\"}}"));
        made += usize::from(tally.stencil.fit(format!("{{\"key{event}\":\"x\"}}").as_bytes(), |_| false).is_some());
    }
    assert_eq!(made, 8);
}

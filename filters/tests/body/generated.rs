//! What is put into a stream comes out of it again, for every protocol; and whatever the bytes are, the record's
//! body is one that its readers know.

use std::io::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What one choice says, each in pieces.
#[derive(Clone, Debug)]
struct Said {
    reasoning: Vec<String>,
    text: Vec<String>,
    calls: Vec<(String, Vec<String>)>,
}

impl Said {
    /// As the record shows it.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(
            Some(self.reasoning.concat()).filter(|all| !all.is_empty()).map(|all| format!("[reasoning] {all}")),
        );
        lines.extend(Some(self.text.concat()).filter(|all| !all.is_empty()));
        lines.extend(self.calls.iter().map(|(name, arguments)| format!("[call] {name}({})", arguments.concat())));
        lines
    }
}

fn shown(choices: &[Said]) -> String {
    let mut lines = Vec::new();
    for (choice, said) in choices.iter().enumerate() {
        let said = said.lines();
        if choice > 0 && !said.is_empty() {
            lines.push(format!("[choice {choice}]"));
        }
        lines.extend(said);
    }
    lines.join("\n")
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[ -~]{0,8}", 1 => "\\PC{0,4}", 1 => "[\n\r\t\"\\\\/\u{0}\u{1f}]{0,3}", 1 => Just("🦀é堰".to_owned())]
}

fn said() -> impl Strategy<Value = Said> {
    let pieces = || prop::collection::vec(piece(), 0..6);
    let calls = prop::collection::vec(("[a-z_]{1,8}", pieces()), 0..3);
    (pieces(), pieces(), calls).prop_map(|(reasoning, text, calls)| Said { reasoning, text, calls })
}

/// The events of a choice, in their order.
fn chat(choice: usize, said: &Said) -> Vec<Value> {
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    deltas.extend(said.reasoning.iter().map(|piece| json!({"content": null, "reasoning_content": piece})));
    deltas.extend(said.text.iter().map(|piece| json!({"content": piece, "refusal": null})));
    for (index, (name, pieces)) in said.calls.iter().enumerate() {
        let begin = json!({"index": index, "id": format!("c{index}"), "function": {"name": name, "arguments": ""}});
        deltas.push(json!({"tool_calls": [begin]}));
        let more = |piece| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]});
        deltas.extend(pieces.iter().map(more));
    }
    let chunk = |delta| json!({"id": "c", "choices": [{"index": choice, "delta": delta}], "usage": null});
    deltas.into_iter().map(chunk).collect()
}

fn responses(said: &Said) -> Vec<Value> {
    let mut events = vec![json!({"type": "response.created", "response": {"error": null}})];
    let delta = |of: &str, output: usize, piece: &String| json!({"type": format!("response.{of}.delta"), "output_index": output, "delta": piece});
    events.extend(said.reasoning.iter().map(|piece| delta("reasoning_summary_text", 0, piece)));
    events.extend(said.text.iter().map(|piece| delta("output_text", 1, piece)));
    for (index, (name, pieces)) in said.calls.iter().enumerate() {
        let output = index + 2;
        let item = json!({"type": "function_call", "name": name, "arguments": ""});
        events.push(json!({"type": "response.output_item.added", "output_index": output, "item": item}));
        events.extend(pieces.iter().map(|piece| delta("function_call_arguments", output, piece)));
    }
    events
}

fn anthropic(said: &Said) -> Vec<Value> {
    let mut events = vec![json!({"type": "message_start", "message": {"content": []}})];
    let mut block = |start: Value, kind: &str, pieces: &[String]| {
        let index = events.len();
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        let delta =
            |piece| json!({"type": "content_block_delta", "index": index, "delta": {"type": "delta", kind: piece}});
        events.extend(pieces.iter().map(delta));
    };
    block(json!({"type": "thinking", "thinking": "", "signature": ""}), "thinking", &said.reasoning);
    block(json!({"type": "text", "text": ""}), "text", &said.text);
    for (name, pieces) in &said.calls {
        block(json!({"type": "tool_use", "id": "t", "name": name, "input": {}}), "partial_json", pieces);
    }
    events
}

fn gemini(choice: usize, said: &Said) -> Vec<Value> {
    let mut parts: Vec<Value> = said.reasoning.iter().map(|piece| json!({"text": piece, "thought": true})).collect();
    parts.extend(said.text.iter().map(|piece| json!({"text": piece})));
    parts.extend(said.calls.iter().map(|(name, args)| json!({"functionCall": {"name": name, "args": args.concat()}})));
    let chunk = |part| json!({"candidates": [{"index": choice, "content": {"parts": [part], "role": "model"}}]});
    parts.into_iter().map(chunk).collect()
}

fn ollama(said: &Said) -> Vec<Value> {
    let mut messages: Vec<Value> =
        said.reasoning.iter().map(|piece| json!({"content": "", "thinking": piece})).collect();
    messages.extend(said.text.iter().map(|piece| json!({"content": piece})));
    let call = |(name, args): &(String, Vec<String>)| json!({"function": {"name": name, "arguments": args.concat()}});
    messages.extend(said.calls.iter().map(|each| json!({"content": "", "tool_calls": [call(each)]})));
    messages.into_iter().map(|message| json!({"message": message, "done": false})).collect()
}

/// One event of each in turn.
fn in_turns(mut streams: Vec<Vec<Value>>) -> Vec<Value> {
    let longest = streams.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|_| streams.iter_mut().filter_map(|s| (!s.is_empty()).then(|| s.remove(0))).collect::<Vec<_>>())
        .collect()
}

/// JSON with nothing but ASCII, as Python writes it.
fn ascii(event: &Value) -> String {
    let mut text = String::new();
    for unit in event.to_string().encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    text
}

fn laid_out(shape: Shape, events: &[Value], is_ascii: bool, newline: &str) -> Vec<u8> {
    let text = |event: &Value| if is_ascii { ascii(event) } else { event.to_string() };
    let mut out = String::new();
    match shape {
        Shape::Sse => {
            for event in events {
                out.push_str(&format!(": ping{newline}event: e{newline}data: {}{newline}{newline}", text(event)));
            }
            out.push_str(&format!("data: [DONE]{newline}{newline}"));
        }
        Shape::JsonArray => {
            let all: Vec<String> = events.iter().map(text).collect();
            out.push_str(&format!("[{}]", all.join(&format!("{newline},"))));
        }
        _ => events.iter().for_each(|event| out.push_str(&format!("{}{newline}", text(event)))),
    }
    out.into_bytes()
}

fn compressed(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Gzip => {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            coder.write_all(bytes).unwrap();
            coder.finish().unwrap()
        }
        Encoding::Brotli => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 20).write_all(bytes).unwrap();
            out
        }
        Encoding::Zstd => zstd::encode_all(bytes, 3).unwrap(),
        _ => bytes.to_vec(),
    }
}

const ENCODINGS: [Encoding; 4] = [Encoding::Identity, Encoding::Gzip, Encoding::Brotli, Encoding::Zstd];

proptest! {
    #[test]
    fn what_is_put_into_a_stream_comes_out_of_it(
        choices in prop::collection::vec(said(), 1..4),
        encoding in prop::sample::select(&ENCODINGS[..]),
        is_ascii: bool,
        newline in prop::sample::select(vec!["\n", "\r\n"]),
    ) {
        let each = |events: fn(usize, &Said) -> Vec<Value>| {
            in_turns(choices.iter().enumerate().map(|(choice, said)| events(choice, said)).collect())
        };
        // Arguments that are no string are shown as JSON.
        let as_json = |said: &Said| {
            let mut said = said.clone();
            said.calls.iter_mut().for_each(|(_, args)| *args = vec![Value::from(args.concat()).to_string()]);
            said
        };
        let structured: Vec<Said> = choices.iter().map(as_json).collect();
        let first = &choices[..1];
        for (operation, shapes, events, expected, may_be_ascii) in [
            (Operation::OpenAiChat, &[Shape::Sse, Shape::Ndjson][..], each(chat), shown(&choices), true),
            (Operation::OpenAiResponses, &[Shape::Sse], responses(&first[0]), shown(first), true),
            (Operation::AnthropicMessages, &[Shape::Sse], anthropic(&first[0]), shown(first), true),
            // Arguments are shown as they stand, escapes and all.
            (Operation::GeminiStream, &[Shape::Sse, Shape::JsonArray], each(gemini), shown(&structured), false),
            (Operation::OllamaChat, &[Shape::Ndjson], ollama(&first[0]), shown(&structured[..1]), false),
        ] {
            for shape in shapes {
                let stream = laid_out(*shape, &events, is_ascii && may_be_ascii, newline);
                let bytes = compressed(encoding, &stream);
                let body = put(&Captured { encoding, ..whole(operation, *shape, &bytes) }, MUCH, &no_secrets());
                let raw = String::from_utf8(stream).unwrap();
                prop_assert_eq!(body.reassembled, !expected.is_empty());
                prop_assert_eq!(&body.text, if expected.is_empty() { &raw } else { &expected });
                prop_assert_eq!((body.truncated, body.bytes), (false, bytes.len() as u64));
            }
        }
    }

    #[test]
    fn any_cap_gives_the_beginning_of_the_one_choice(said in said(), cap in 0..60_usize) {
        let stream = laid_out(Shape::Sse, &chat(0, &Said { calls: vec![], ..said.clone() }), false, "\n");
        let body = put(&whole(Operation::OpenAiChat, Shape::Sse, &stream), cap, &no_secrets());
        let all = shown(&[Said { calls: vec![], ..said }]);
        prop_assert!(body.text.len() <= cap);
        if body.reassembled {
            prop_assert!(all.starts_with(&body.text), "{:?} of {:?}", body.text, all);
            prop_assert_eq!(body.truncated, body.text != all);
        }
    }

    #[test]
    fn a_secret_that_a_model_spells_is_masked_wherever_it_is_cut(
        sizes in prop::collection::vec(1..6_usize, 1..30),
        end in 200..4000_usize,
        cap in 1..80_usize,
    ) {
        let key = "sk-zq9xw7vu";
        let text = format!("First {key}, then {key}{key} and so on. {key}");
        let mut pieces = vec!["…".to_owned()];
        let mut rest = text.as_str();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece.to_owned());
            rest = tail;
        }
        let said = Said { reasoning: pieces.clone(), text: pieces.clone(), calls: vec![(key.to_owned(), pieces)] };
        let stream = laid_out(Shape::Sse, &chat(0, &said), true, "\n");
        let kept = &stream[..end.min(stream.len())];
        for cap in [cap, MUCH] {
            let captured = Captured { total: stream.len() as u64, ..whole(Operation::OpenAiChat, Shape::Sse, kept) };
            let body = put(&captured, cap, &Mask::new(&[key]));
            if body.reassembled {
                prop_assert!(!body.text.contains("sk-z"), "{}", body.text);
                prop_assert!(body.text.len() <= cap);
            }
        }
    }

    #[test]
    fn any_bytes_make_a_body_that_readers_know(
        bytes in prop::collection::vec(
            prop_oneof![
                2 => any::<u8>().prop_map(|byte| vec![byte]),
                3 => prop::sample::select(b"{}[]\",:\\ \n\r".to_vec()).prop_map(|byte| vec![byte]),
                3 => prop::sample::select(vec![
                    "data: ", "\n\n", "{\"choices\":[{\"delta\":{\"content\":\"", "\"}}]}\n\n", "event: error\n", "\"error\":",
                    "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"", "\"}]}}]}", "{\"message\":{\"content\":\"", "sk-zq9xw7vu",
                    "{\"type\":\"response.output_text.delta\",\"delta\":\"", "{\"delta\":{\"text\":\"", "\\ud83e", "é",
                ])
                .prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..80,
        ),
        cap in 0..200_usize,
        more in 0..3_u64,
        cut: bool,
        operation in prop::sample::select(&Operation::ALL[..]),
    ) {
        let bytes = bytes.concat();
        let mask = Mask::new(&["sk-zq9xw7vu"]);
        for shape in [Shape::Sse, Shape::Json, Shape::JsonArray, Shape::Ndjson, Shape::Opaque] {
            for encoding in ENCODINGS.into_iter().chain([Encoding::Deflate, Encoding::Unknown]) {
                let total = bytes.len() as u64 + more;
                let body = put(&Captured { operation, shape, encoding, bytes: &bytes, total, cut }, cap, &mask);
                prop_assert_eq!(body.bytes, total);
                prop_assert!(body.truncated || !cut && more == 0);
                let longest = if body.is_base64 { cap.div_ceil(3) * 4 } else { cap };
                prop_assert!(body.text.len() <= longest, "{} of {cap}", body.text.len());
                prop_assert!(!body.text.contains("sk-zq9xw7vu"));
                prop_assert!(!(body.is_base64 && body.reassembled));
                let is_plain = encoding == Encoding::Identity && !body.reassembled && !body.is_base64;
                if is_plain && !body.truncated {
                    prop_assert_eq!(body.text.as_bytes(), &*mask.apply(&bytes));
                }
            }
        }
    }
}

//! What an answer says, in a few words: the model's text, or the message of an error.
//!
//! Owns where each protocol has them in a document. Whatever is not where it should be is not there.

use serde_json::Value;

use crate::route::Operation;

/// The text that a model wrote into an answer that is one document.
pub fn text_of(operation: Operation, document: &Value) -> Option<String> {
    let joined = |parts: &Value, field: &str| {
        let texts = parts.as_array()?.iter().filter_map(|part| part[field].as_str());
        Some(texts.collect::<String>()).filter(|text| !text.is_empty())
    };
    match operation {
        Operation::OpenAiChat => document["choices"][0]["message"]["content"].as_str().map(str::to_owned),
        Operation::OpenAiCompletions => document["choices"][0]["text"].as_str().map(str::to_owned),
        Operation::OpenAiResponses => {
            let messages = document["output"].as_array()?.iter();
            let texts: String = messages.filter_map(|message| joined(&message["content"], "text")).collect();
            (!texts.is_empty()).then_some(texts)
        }
        Operation::OpenAiEmbeddings => length(&document["data"][0]["embedding"]),
        Operation::AnthropicMessages => joined(&document["content"], "text"),
        Operation::GeminiGenerate | Operation::GeminiStream => {
            joined(&document["candidates"][0]["content"]["parts"], "text")
        }
        Operation::GeminiEmbed => length(&document["embedding"]["values"]),
        _ => None,
    }
}

/// Nobody reads a thousand numbers.
fn length(numbers: &Value) -> Option<String> {
    numbers.as_array().filter(|numbers| !numbers.is_empty()).map(|numbers| format!("[{} numbers]", numbers.len()))
}

/// The message of an error, in a document or in an event of a stream.
pub fn error_of(body: &[u8]) -> Option<String> {
    let message = |document: &Value| {
        let error = document.get("error")?;
        let text = error.get("message").or(Some(error)).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if let Ok(document) = serde_json::from_slice::<Value>(body) {
        // Gemini's answers may be a list.
        return message(&document).or_else(|| message(document.get(0)?));
    }
    let lines = body.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    lines.filter_map(|data| serde_json::from_slice::<Value>(data).ok()).find_map(|event| message(&event))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_text_is_found_where_each_protocol_has_it() {
        for (operation, document, expected) in [
            (Operation::OpenAiChat, json!({ "choices": [{ "message": { "content": "pong" } }] }), Some("pong")),
            (Operation::OpenAiChat, json!({ "choices": [] }), None),
            (Operation::OpenAiCompletions, json!({ "choices": [{ "text": "pong" }] }), Some("pong")),
            (
                Operation::OpenAiResponses,
                json!({ "output": [{ "type": "reasoning" }, { "content": [{ "text": "po" }, { "text": "ng" }] }] }),
                Some("pong"),
            ),
            (Operation::OpenAiEmbeddings, json!({ "data": [{ "embedding": [0.1, 0.2] }] }), Some("[2 numbers]")),
            (
                Operation::AnthropicMessages,
                json!({ "content": [{ "thinking": "x" }, { "text": "pong" }] }),
                Some("pong"),
            ),
            (
                Operation::GeminiGenerate,
                json!({ "candidates": [{ "content": { "parts": [{ "text": "pong" }] } }] }),
                Some("pong"),
            ),
            (Operation::GeminiEmbed, json!({ "embedding": { "values": [1] } }), Some("[1 numbers]")),
            (Operation::Models, json!({ "content": "x" }), None),
        ] {
            assert_eq!(text_of(operation, &document).as_deref(), expected, "{operation}");
        }
    }

    #[test]
    fn an_errors_message_is_found_in_documents_and_streams() {
        for (body, expected) in [
            (r#"{"error":{"message":"no","code":1}}"#, Some("no")),
            (r#"{"type":"error","error":{"type":"x","message":"busy"}}"#, Some("busy")),
            (r#"[{"error":{"message":"no"}}]"#, Some("no")),
            (r#"{"error":"plain"}"#, Some("plain")),
            (r#"{"error":{"code":5}}"#, None),
            ("event: x\ndata: {}\n\nevent: error\ndata: {\"error\":{\"message\":\"late\"}}\n\n", Some("late")),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(error_of(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in prop::collection::vec(any::<u8>(), 0..60), lines in "(data:)?[\\[\\]{}:\",a-z0-9 \n]{0,60}") {
            let _ = (error_of(&body), error_of(lines.as_bytes()));
        }
    }
}

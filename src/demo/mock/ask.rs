//! What was asked, and what the mock has to say to it: a function of the request alone.
//!
//! Refuses to know protocols: each of them wraps the same words in its own shape. The same request
//! gets the same answer, ids and times included, so that an answer through Weir can be compared
//! with one had directly.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use weir_filters::usage::{Source, Usage};

/// Words of the user's that are repeated; a demo's answer should fit a screen.
const ECHOED_WORDS: usize = 12;
/// Longest echoed word, in characters: a prompt without spaces must not become one giant event.
const WORD_CHARS: usize = 64;
/// Tokens that each request costs beside its words, as chat templates do.
const TEMPLATE_TOKENS: u64 = 8;
/// 2025-11-20T00:00:00Z: `created` lies within a day of it.
const EPOCH: u64 = 1_763_596_800;

/// Members that hold prompt text, wherever they stand.
const TEXT_MEMBERS: [&str; 14] = [
    "system",
    "instructions",
    "systemInstruction",
    "system_instruction",
    "messages",
    "contents",
    "requests",
    "generateContentRequest",
    "input",
    "prompt",
    "content",
    "parts",
    "text",
    "output",
];

/// One request, understood.
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) body: Value,
    /// How many words the answer shall have, if the client said (`x-mock-words`).
    pub(super) words: Option<usize>,
    seed: [u8; 32],
}

/// What the model says.
pub(super) struct Reply {
    /// The text, a token each.
    pub(super) words: Vec<String>,
    /// A call of the first tool offered; then there is no text.
    pub(super) tool: Option<ToolCall>,
}

/// A tool call.
pub(super) struct ToolCall {
    pub(super) name: String,
    pub(super) arguments: Value,
}

impl Ask {
    /// `body` is the JSON body, or null if there was none.
    pub(super) fn new(model: String, stream: bool, body: Value, words: Option<usize>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(model.as_bytes());
        digest(&body, 0, &mut hasher);
        Self { model, stream, body, words, seed: hasher.finalize().into() }
    }

    /// An id derived from the request: `prefix` and 24 hex digits.
    pub(super) fn id(&self, prefix: &str) -> String {
        use std::fmt::Write;
        let mut id = String::from(prefix);
        for byte in &self.seed[..12] {
            write!(id, "{byte:02x}").expect("a String takes everything");
        }
        id
    }

    /// A Unix time derived from the request.
    pub(super) fn created(&self) -> u64 {
        EPOCH + u64::from(u16::from_be_bytes([self.seed[12], self.seed[13]]))
    }

    /// A number from 0 to 255 derived from the request, different for each `index`.
    pub(super) fn noise(&self, index: usize) -> u8 {
        self.seed[index % self.seed.len()].wrapping_add(u8::try_from(index / self.seed.len() % 256).unwrap_or(0))
    }

    /// The member `name` of the body.
    pub(super) fn member(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    /// The whole prompt in tokens: a word or a token id each, and the template's.
    pub(super) fn prompt_tokens(&self) -> u64 {
        let mut texts = Vec::new();
        let mut ids = 0;
        collect(&self.body, &mut texts, &mut ids);
        let words: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
        TEMPLATE_TOKENS + count(words) + ids
    }

    /// Usage without any cache.
    pub(super) fn usage(&self, output: u64) -> Usage {
        Usage { input_uncached: self.prompt_tokens(), output, source: Source::Upstream, ..Usage::default() }
    }

    /// What the model says to the last user message.
    pub(super) fn reply(&self) -> Reply {
        let (said, answers_tool) = self.last_said();
        if !answers_tool && let Some(tool) = self.tool_call(&said) {
            return Reply { words: Vec::new(), tool: Some(tool) };
        }
        let mut words: Vec<String> = vec!["You".into(), " said:".into()];
        let echo: Vec<String> = said
            .split_whitespace()
            .take(ECHOED_WORDS)
            .map(|word| " ".chars().chain(word.chars().take(WORD_CHARS)).collect())
            .collect();
        match self.words {
            Some(wanted) if echo.is_empty() => words = vec![" nothing".into(); wanted],
            Some(wanted) => words = words.into_iter().chain(echo.into_iter().cycle()).take(wanted).collect(),
            None if echo.is_empty() => words.push(" nothing".into()),
            None => words.extend(echo),
        }
        Reply { words, tool: None }
    }

    /// The text of the last user turn, and whether the turn is a tool's result.
    fn last_said(&self) -> (String, bool) {
        let turns = ["messages", "contents", "input"].iter().find_map(|name| self.body.get(name)?.as_array());
        let Some(turns) = turns else {
            let whole = ["input", "prompt", "content"].iter().find_map(|name| self.member(name));
            return (whole.map(joined).unwrap_or_default(), false);
        };
        let answers_tool = turns.last().is_some_and(is_tool_result);
        let from_user = |turn: &&Value| turn.get("role").is_none_or(|role| role == "user") && !joined(turn).is_empty();
        (turns.iter().rev().find(from_user).map(joined).unwrap_or_default(), answers_tool)
    }

    fn tool_call(&self, said: &str) -> Option<ToolCall> {
        if self.body.get("tool_choice").is_some_and(|choice| choice == "none") {
            return None;
        }
        let tool = self.body.get("tools")?.as_array()?.iter().find_map(|tool| {
            let gemini = tool.get("functionDeclarations").and_then(|list| list.get(0));
            gemini.or_else(|| tool.get("function")).or(Some(tool)).filter(|t| t.get("name").is_some())
        })?;
        let schema = ["parameters", "input_schema", "parametersJsonSchema"].iter().find_map(|name| tool.get(name));
        let mut arguments = Map::new();
        for (name, kind) in schema.and_then(|s| s.get("properties")?.as_object()).into_iter().flatten() {
            arguments.insert(name.clone(), example(kind, said));
        }
        Some(ToolCall { name: tool["name"].as_str()?.to_owned(), arguments: Value::Object(arguments) })
    }
}

impl Reply {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        self.words.concat()
    }

    /// How many tokens it is.
    pub(super) fn tokens(&self) -> u64 {
        match &self.tool {
            Some(call) => 2 + count(call.pieces().len()),
            None => count(self.words.len()),
        }
    }
}

impl ToolCall {
    /// The arguments as JSON text, in the pieces in which a stream sends them.
    pub(super) fn pieces(&self) -> Vec<String> {
        let text = self.arguments.to_string();
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(WORD_CHARS / 4).map(|piece| piece.iter().collect()).collect()
    }
}

/// A length as a figure.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Feeds everything that says what is asked; how the answer is to be delivered is left out, because
/// a gateway may ask a stream to report its usage, and a Gemini body may carry `model` and `stream`.
fn digest(value: &Value, depth: usize, hasher: &mut Sha256) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            for name in names {
                if depth > 0 || !matches!(name.as_str(), "stream" | "stream_options" | "encoding_format" | "model") {
                    hasher.update(name.as_bytes());
                    digest(&members[name], depth + 1, hasher);
                }
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            for item in items {
                digest(item, depth + 1, hasher);
            }
            hasher.update(b"]");
        }
        leaf => hasher.update(leaf.to_string().as_bytes()),
    }
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>, ids: &mut u64) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Number(_) => *ids += 1,
        Value::Array(items) => {
            for item in items {
                collect(item, texts, ids);
            }
        }
        Value::Object(members) => {
            for name in TEXT_MEMBERS {
                if let Some(member) = members.get(name) {
                    collect(member, texts, ids);
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn joined(value: &Value) -> String {
    let mut texts = Vec::new();
    collect(value, &mut texts, &mut 0);
    texts.join(" ")
}

fn is_tool_result(turn: &Value) -> bool {
    let part_is = |list: &str, test: fn(&Value) -> bool| {
        turn.get(list).and_then(Value::as_array).is_some_and(|parts| parts.iter().any(test))
    };
    turn.get("role").is_some_and(|role| role == "tool")
        || turn.get("type").is_some_and(|kind| kind == "function_call_output")
        || part_is("content", |part| part.get("type").is_some_and(|kind| kind == "tool_result"))
        || part_is("parts", |part| part.get("functionResponse").is_some())
}

/// A value that fits a JSON schema (Gemini writes its types in capitals).
fn example(schema: &Value, said: &str) -> Value {
    if let Some(first) = schema.get("enum").and_then(|values| values.get(0)) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
        Some("integer" | "number") => Value::from(1),
        Some("boolean") => Value::from(true),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => Value::Object(Map::new()),
        _ => Value::from(said.split_whitespace().next_back().unwrap_or("nothing")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(body: Value) -> Ask {
        Ask::new("m".into(), false, body, None)
    }

    #[test]
    fn the_same_request_has_the_same_id_however_its_answer_is_delivered() {
        let plain = ask(json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}));
        let same = ask(json!({"messages": [{"content": "hi", "role": "user"}], "stream": true,
            "stream_options": {"include_usage": true}}));
        let other = ask(json!({"messages": [{"role": "user", "content": "ho"}]}));
        assert_eq!(plain.id("x-"), same.id("x-"));
        assert_eq!(plain.created(), same.created());
        assert_ne!(plain.id("x-"), other.id("x-"));
        assert_eq!(plain.id("x-").len(), 2 + 24);
    }

    #[test]
    fn the_answer_is_made_of_the_last_user_message() {
        let body = json!({"messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "three four"}]}]});
        let ask = ask(body);
        assert_eq!(ask.reply().text(), "You said: three four");
        assert_eq!(ask.reply().tokens(), 4);
        assert_eq!(ask.prompt_tokens(), 8 + 6);
    }

    #[test]
    fn a_wanted_length_is_met() {
        let body = json!({"messages": [{"role": "user", "content": "a b"}]});
        let ask = Ask::new("m".into(), true, body, Some(5));
        assert_eq!(ask.reply().text(), "You said: a b a");
    }

    #[test]
    fn token_ids_are_tokens() {
        assert_eq!(ask(json!({"input": [[1, 2, 3], [4]]})).prompt_tokens(), 8 + 4);
    }

    #[test]
    fn the_first_tool_is_called_once() {
        let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}});
        let question = json!({"role": "user", "content": "weather in Oslo"});
        let call = ask(json!({"messages": [question], "tools": [tool]})).reply().tool.expect("a tool was offered");
        assert_eq!(call.name, "weather");
        assert_eq!(call.arguments, json!({"city": "Oslo", "days": 1}));
        assert_eq!(call.pieces().concat(), call.arguments.to_string());
        let answered = ask(json!({"messages": [question, {"role": "tool", "content": "sunny"}], "tools": [tool]}));
        assert_eq!(answered.reply().text(), "You said: weather in Oslo");
    }
}

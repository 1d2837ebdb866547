//! The Gemini API: `:generateContent`, `:streamGenerateContent`, `:embedContent`, `:batchEmbedContents`
//! and `:countTokens`.
//!
//! Thoughts are outside `candidatesTokenCount`, the tool-use prompt outside `promptTokenCount`, and
//! every chunk of a stream reports what was used so far. Knows nothing of Vertex.

use weir_filters::usage::Usage;

use super::answer::{Answer, Piece, SSE};
use super::ask::Ask;
use super::completions::vector;
use super::json::{Json, Object, object};

/// Tokens that 2.5 models think before they speak.
const THOUGHTS: u64 = 7;
/// Tokens that the results of built-in tools add to the prompt of 2.5 models.
const TOOL_PROMPT: u64 = 3;

/// How a stream is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// One object.
    Plain,
    /// Server-sent events (`alt=sse`), lines ending in CRLF, no `[DONE]`.
    Sse,
    /// One JSON array, an element at a time.
    Array,
}

pub(super) fn generate(ask: &Ask, form: Form) -> Answer {
    let figures = Figures::of(ask);
    let reply = ask.reply();
    let tokens = reply.tokens();
    let parts: Vec<(Json, u64)> = match &reply.tool {
        Some(call) => {
            let call = object! { "name": call.name, "args": call.arguments };
            vec![(object! { "functionCall": call }, tokens)]
        }
        None if form == Form::Plain => vec![(object! { "text": reply.text() }, tokens)],
        None => reply.words.iter().zip(1..).map(|(word, sent)| (object! { "text": word }, sent)).collect(),
    };
    if form == Form::Plain {
        let usage = figures.usage(tokens);
        let part = parts.into_iter().next().map(|(part, _)| part);
        return Answer::json(&chunk(ask, part, true, &figures, tokens), Some(usage));
    }
    let total = parts.len();
    let mut pieces = Vec::new();
    for (at, (part, sent)) in parts.into_iter().enumerate() {
        let json = chunk(ask, Some(part), at + 1 == total, &figures, sent);
        let piece = match form {
            Form::Sse => Piece { events: 1, ..Piece::raw(format!("data: {json}\r\n\r\n")) },
            Form::Array | Form::Plain => Piece::raw(format!("{}{json}", if at == 0 { "[" } else { ",\r\n" })),
        };
        pieces.push(piece.reporting(figures.usage(sent)));
    }
    if form == Form::Array {
        pieces.push(Piece::raw(if total == 0 { "[]\n" } else { "\n]\n" }));
        return Answer::stream("application/json; charset=UTF-8", pieces);
    }
    Answer::stream(SSE, pieces)
}

/// What is used, apart from the answer itself.
struct Figures {
    prompt: u64,
    cached: u64,
    tool_prompt: u64,
    thoughts: u64,
}

impl Figures {
    fn of(ask: &Ask) -> Self {
        let prompt = ask.prompt_tokens();
        if ask.model.starts_with("gemini-2.5") {
            Self { prompt, cached: prompt / 3, tool_prompt: TOOL_PROMPT, thoughts: THOUGHTS }
        } else {
            Self { prompt, cached: 0, tool_prompt: 0, thoughts: 0 }
        }
    }

    fn usage(&self, candidates: u64) -> Usage {
        Usage {
            input_uncached: self.prompt - self.cached + self.tool_prompt,
            cache_read: self.cached,
            output: candidates + self.thoughts,
            reasoning: self.thoughts,
            source: weir_filters::usage::Source::Upstream,
            ..Usage::default()
        }
    }

    fn report(&self, candidates: u64) -> Json {
        let mut report = Object::new();
        report.put("promptTokenCount", &self.prompt);
        report.put("candidatesTokenCount", &candidates);
        report.put("totalTokenCount", &self.usage(candidates).total());
        if self.cached > 0 {
            report.put("cachedContentTokenCount", &self.cached);
        }
        report.put("promptTokensDetails", &[object! { "modality": "TEXT", "tokenCount": self.prompt }]);
        if self.tool_prompt > 0 {
            report.put("toolUsePromptTokenCount", &self.tool_prompt);
        }
        if self.thoughts > 0 {
            report.put("thoughtsTokenCount", &self.thoughts);
        }
        report.done()
    }
}

fn chunk(ask: &Ask, part: Option<Json>, last: bool, figures: &Figures, sent: u64) -> Json {
    let mut candidate = Object::new();
    candidate.put("content", &object! { "parts": part.into_iter().collect::<Vec<_>>(), "role": "model" });
    if last {
        candidate.put("finishReason", "STOP");
    }
    candidate.put("index", &0);
    object! {
        "candidates": [candidate.done()],
        "usageMetadata": figures.report(sent),
        "modelVersion": ask.model,
        "responseId": ask.id(""),
    }
}

/// `gemini-embedding-001` reports nothing; later ones report the prompt.
pub(super) fn embed(ask: &Ask, batch: bool) -> Answer {
    let values = |index| object! { "values": vector(ask, index) };
    let mut body = Object::new();
    if batch {
        let requests = ask.member("requests").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
        body.put("embeddings", &(0..requests).map(values).collect::<Vec<_>>());
    } else {
        body.put("embedding", &values(0));
    }
    let reports = ask.model != "gemini-embedding-001";
    let usage = reports.then(|| ask.usage(0));
    if let Some(usage) = &usage {
        body.put("usageMetadata", &object! { "promptTokenCount": usage.input() });
    }
    Answer::json(&body.done(), usage)
}

/// Never billed: nothing is reported as used.
pub(super) fn count_tokens(ask: &Ask) -> Answer {
    let tokens = ask.prompt_tokens();
    let details = [object! { "modality": "TEXT", "tokenCount": tokens }];
    Answer::json(&object! { "totalTokens": tokens, "promptTokensDetails": details }, None)
}

/// `GET /v1beta/models` (or `/v1/models`) of the provider.
pub(super) fn models(names: &[&str]) -> Answer {
    let models: Vec<Json> = names
        .iter()
        .map(|name| {
            object! {
                "name": format!("models/{name}"),
                "version": "001",
                "displayName": name,
                "inputTokenLimit": 1_048_576,
                "outputTokenLimit": 65_536,
                "supportedGenerationMethods": ["generateContent", "countTokens"],
            }
        })
        .collect();
    Answer::json(&object! { "models": models }, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_are_outside_candidates_and_tool_prompts_outside_prompts() {
        let ask = Ask::new(
            "gemini-2.5-flash".into(),
            false,
            serde_json::json!({"contents": [{"parts": [{"text": "one two three four"}]}]}),
            None,
        );
        let figures = Figures::of(&ask);
        assert_eq!(
            figures.report(6).get(),
            r#"{"promptTokenCount":12,"candidatesTokenCount":6,"totalTokenCount":28,"cachedContentTokenCount":4,"#
                .to_owned()
                + r#""promptTokensDetails":[{"modality":"TEXT","tokenCount":12}],"toolUsePromptTokenCount":3,"#
                + r#""thoughtsTokenCount":7}"#
        );
        let usage = figures.usage(6);
        assert_eq!((usage.input(), usage.cache_read, usage.output, usage.reasoning), (15, 4, 13, 7));
    }

    #[test]
    fn a_reply_in_an_array_is_one_json_value() {
        let ask =
            Ask::new("gemini-x".into(), true, serde_json::json!({"contents": [{"parts": [{"text": "a"}]}]}), None);
        let sent: Vec<u8> = generate(&ask, Form::Array).pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        let array: Vec<serde_json::Value> = serde_json::from_slice(&sent).expect("one JSON array");
        assert_eq!(array.len(), 3);
    }
}

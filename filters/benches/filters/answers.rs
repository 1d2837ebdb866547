//! Answers as providers stream them, generated: the same bytes on every machine.

use weir_filters::meter::Shape;
use weir_filters::route::Operation;

/// Deltas of an answer: a few minutes' worth of fast generation.
pub(crate) const DELTAS: usize = 400;

/// One kind of stream.
pub(crate) struct Answer {
    pub(crate) name: &'static str,
    pub(crate) operation: Operation,
    pub(crate) shape: Shape,
    pub(crate) body: Vec<u8>,
    /// Documents in it: events or lines, the sentinel aside.
    pub(crate) events: usize,
}

pub(crate) fn answers() -> Vec<Answer> {
    let sse = Shape::Sse;
    vec![
        answer("openai", Operation::OpenAiChat, sse, openai(false)),
        answer("openai_asked_for_usage", Operation::OpenAiChat, sse, openai(true)),
        answer("deepseek_reasoning", Operation::OpenAiChat, sse, deepseek()),
        answer("vllm_continuous_usage", Operation::OpenAiChat, sse, vllm()),
        answer("responses", Operation::OpenAiResponses, sse, responses()),
        answer("anthropic", Operation::AnthropicMessages, sse, anthropic()),
        answer("gemini", Operation::GeminiStream, sse, gemini()),
        answer("ollama", Operation::OllamaChat, Shape::Ndjson, ollama()),
    ]
}

fn answer(name: &'static str, operation: Operation, shape: Shape, documents: Vec<String>) -> Answer {
    let events = documents.iter().filter(|document| !document.contains("[DONE]")).count();
    Answer { name, operation, shape, body: documents.concat().into_bytes(), events }
}

/// The words of the answer, a token each.
fn words() -> impl Iterator<Item = (usize, &'static str)> {
    const WORDS: [&str; 16] = [
        "The", " weir", " is", " a", " low", " dam", " across", " a", " river", ",", " built", " to", " raise", " its",
        " level", ".\\n\\n",
    ];
    WORDS.into_iter().cycle().take(DELTAS).enumerate()
}

fn data(json: &str) -> String {
    format!("data: {json}\n\n")
}

fn openai(asked: bool) -> Vec<String> {
    let null = if asked { ",\"usage\":null" } else { "" };
    let chunk = |delta: &str, reason: &str| {
        data(&format!(
            "{{\"id\":\"chatcmpl-Bq2kXw0mS7dF3hVtY9aLcN4e\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,\
             \"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\",\
             \"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{reason}}}]{null}}}"
        ))
    };
    let mut events = vec![chunk("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null")];
    events.extend(words().map(|(_, word)| chunk(&format!("{{\"content\":\"{word}\"}}"), "null")));
    events.push(chunk("{}", "\"stop\""));
    if asked {
        events.push(data(
            "{\"id\":\"chatcmpl-Bq2kXw0mS7dF3hVtY9aLcN4e\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,\
             \"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\",\
             \"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":400,\"total_tokens\":419,\
             \"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":\
             {\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}",
        ));
    }
    events.push(data("[DONE]"));
    events
}

fn deepseek() -> Vec<String> {
    let chunk = |delta: &str, reason: &str| {
        data(&format!(
            "{{\"id\":\"f7cb51de-9a0e-4c1f-8d0c-2b1f3a4d5e6f\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,\
             \"model\":\"deepseek-reasoner\",\"system_fingerprint\":\"fp_ffc7281d48_prod0820_fp8_kvcache\",\
             \"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{reason}}}],\"usage\":null}}"
        ))
    };
    let mut events: Vec<String> = words()
        .map(|(_, word)| chunk(&format!("{{\"content\":null,\"reasoning_content\":\"{word}\"}}"), "null"))
        .collect();
    events.push(chunk("{\"content\":\"\",\"reasoning_content\":null}", "\"stop\""));
    events.push(data("[DONE]"));
    events
}

fn vllm() -> Vec<String> {
    let mut events: Vec<String> = words()
        .map(|(at, word)| {
            data(&format!(
                "{{\"id\":\"chatcmpl-2f6c1f0a5e0b4a7c\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,\
                 \"model\":\"Qwen/Qwen2.5-7B-Instruct\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\
                 \"logprobs\":null,\"finish_reason\":null}}],\"usage\":{{\"prompt_tokens\":33,\"total_tokens\":{},\
                 \"completion_tokens\":{}}}}}",
                at + 34,
                at + 1,
            ))
        })
        .collect();
    events.push(data("[DONE]"));
    events
}

fn responses() -> Vec<String> {
    let event = |name: &str, rest: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\",{rest}}}\n\n");
    let response = |status: &str, usage: &str| {
        format!(
            "\"response\":{{\"id\":\"resp_68f1a0\",\"object\":\"response\",\"created_at\":1764000000,\"status\":\"{status}\",\
             \"error\":null,\"model\":\"gpt-5-mini-2025-08-07\",\"output\":[],\"usage\":{usage}}}"
        )
    };
    let usage = "{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":400,\
                 \"output_tokens_details\":{\"reasoning_tokens\":64},\"total_tokens\":436}";
    let mut events = vec![event("response.created", &response("in_progress", "null"))];
    events.extend(words().map(|(at, word)| {
        event(
            "response.output_text.delta",
            &format!(
                "\"sequence_number\":{},\"item_id\":\"msg_68f1a0b2c3d4e5f60718293a\",\"output_index\":0,\"content_index\":0,\
                 \"delta\":\"{word}\",\"logprobs\":[],\"obfuscation\":\"Xk2mPq9\"",
                at + 4
            ),
        )
    }));
    events.push(event("response.completed", &response("completed", usage)));
    events
}

fn anthropic() -> Vec<String> {
    let event = |name: &str, rest: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n");
    let mut events = vec![
        event(
            "message_start",
            ",\"message\":{\"model\":\"claude-sonnet-4-5-20250929\",\"id\":\"msg_01XFDUDYJgAACzvnptvVoYEL\",\
             \"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\
             \"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\
             \"output_tokens\":1}}",
        ),
        event("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
        event("ping", ""),
    ];
    events.extend(words().map(|(_, word)| {
        let rest = format!(",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}");
        event("content_block_delta", &rest)
    }));
    events.push(event("content_block_stop", ",\"index\":0"));
    events.push(event(
        "message_delta",
        ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":400}",
    ));
    events.push(event("message_stop", ""));
    events
}

fn gemini() -> Vec<String> {
    words()
        .map(|(at, word)| {
            let reason = if at + 1 == DELTAS { ",\"finishReason\":\"STOP\"" } else { "" };
            data(&format!(
                "{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{word}\"}}],\"role\":\"model\"}}{reason},\
                 \"index\":0}}],\"usageMetadata\":{{\"promptTokenCount\":1500,\"candidatesTokenCount\":{},\
                 \"totalTokenCount\":{},\"promptTokensDetails\":[{{\"modality\":\"TEXT\",\"tokenCount\":1500}}],\
                 \"thoughtsTokenCount\":60}},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"vHkzaYq9NqCq1PIP\"}}",
                at + 1,
                at + 1561,
            ))
        })
        .collect()
}

fn ollama() -> Vec<String> {
    let line =
        |rest: &str| format!("{{\"model\":\"llama3.2\",\"created_at\":\"2025-11-21T08:52:19.385406455Z\",{rest}}}\n");
    let mut lines: Vec<String> = words()
        .map(|(_, word)| line(&format!("\"message\":{{\"role\":\"assistant\",\"content\":\"{word}\"}},\"done\":false")))
        .collect();
    lines.push(line(
        "\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done_reason\":\"stop\",\"done\":true,\
         \"total_duration\":4883583458,\"load_duration\":1334875,\"prompt_eval_count\":26,\
         \"prompt_eval_duration\":342546000,\"eval_count\":400,\"eval_duration\":4535599000",
    ));
    lines
}

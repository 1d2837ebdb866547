//! What models wrote, out of streams that were recorded and of events as the references show them.

use std::collections::BTreeMap;

use super::support::cases;
use super::*;

/// What each recorded stream says, and how many of its runs say it; runs that were cut say the beginning.
const RECORDED: &[(&str, &[&str])] = &[
    ("anthropic/cached_stream.anthropic.sse", &["A weir is a low dam that lets the river through."]),
    (
        "anthropic/error_in_stream.anthropic.sse",
        &["Half an answer\n[error] {\"details\":null,\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}"],
    ),
    ("anthropic/server_tool_corrects_input.anthropic.sse", &["Searching."]),
    (
        "anthropic/tool_and_thinking_stream.anthropic.sse",
        &[
            "[reasoning] I should call the tool.\n[call] get_weather({\"location\": \"San Francisco\"})",
            "[reasoning] I should call the tool.\n[call] get_weather({\"location\":)",
        ],
    ),
    (
        "gemini/array_stream.gemini.json",
        &[
            "[reasoning] **Thinking of dams**\n\nA weir is a low dam across a river.",
            "[reasoning] **Thinking of dams**\n\nA weir is a low dam",
        ],
    ),
    (
        "gemini/function_call_stream.gemini.json",
        &["[call] get_weather({\n                \"location\": \"Paris\"\n              })"],
    ),
    (
        "gemini/thoughts_and_cache_stream.gemini.sse",
        &[
            "[reasoning] **Thinking of dams**\n\nA weir is a low dam across a river.",
            "[reasoning] **Thinking of dams**\n\nA weir is a low dam",
            "[reasoning] **Thinking of dams**\n",
        ],
    ),
    ("ollama/chat_stream.ollama.ndjson", &["The sky is blue", "The"]),
    ("ollama/error_in_stream.ollama.ndjson", &["Hi\n[error] an error was encountered while running the model"]),
    ("ollama/no_counts.ollama.ndjson", &["Hi there"]),
    ("ollama/prompt_was_cached.ollama.ndjson", &["Hi"]),
    ("openai/chat_stream.azure.sse", &["Low dams."]),
    ("openai/chat_stream.groq.sse", &["Hi"]),
    ("openai/chat_stream.mistral.sse", &["Bonjour à tous"]),
    ("openai/chat_stream.moonshot.sse", &["A dam!"]),
    ("openai/chat_stream.openai.sse", &["The weir lets the river through and measures it.", "The weir lets the river"]),
    ("openai/chat_stream.openrouter.sse", &["[reasoning] Hm.\nDams hold", "[reasoning] Hm."]),
    ("openai/chat_stream_without_usage.openai.sse", &["The weir lets the river through and measures it."]),
    ("openai/completions_stream.openai.sse", &["\n\nOnce upon"]),
    ("openai/continuous_usage.vllm.sse", &["One, two, three", "One, two"]),
    ("openai/cr_and_many_data_lines.compatible.sse", &["Hi"]),
    ("openai/crlf_and_bom.compatible.sse", &["Hi"]),
    (
        "openai/error_in_stream.openrouter.sse",
        &["Dams\n[error] {\"code\":502,\"message\":\"Provider disconnected unexpectedly\"}"],
    ),
    ("openai/reasoner_stream.deepseek.sse", &["[reasoning] 用户想知道堰\n堰是低坝。", "[reasoning] 用户想知道堰"]),
    (
        "openai/responses_failed_stream.openai.sse",
        &["A low dam.\n[error] {\"code\":\"server_error\",\"message\":\"The model failed to generate a response.\"}"],
    ),
    ("openai/responses_incomplete_stream.openai.sse", &["A low dam."]),
    ("openai/responses_stream.openai.sse", &["A low dam."]),
    ("openai/timings_alone.llamacpp.sse", &["Hey you"]),
    (
        "openai/tool_call_stream.openai.sse",
        &["[call] get_weather({\"location\":\"Paris, France\"})", "[call] get_weather({\"location\":\"Paris)"],
    ),
    ("openai/transcription_stream.openai.sse", &["I see skies of blue"]),
    ("openai/usage_and_timings.llamacpp.sse", &["Hey"]),
];

/// Streams, and runs of them, in which no model wrote anything.
const SILENT: &[&str] = &[
    "anthropic/cached_stream.anthropic.sse",
    "anthropic/error_at_once.anthropic.sse",
    "gemini/error_array.gemini.json",
    "openai/chat_stream.azure.sse",
    "openai/chat_stream.openai.sse",
    "openai/chat_stream.openrouter.sse",
    "openai/responses_error_stream.openai.sse",
];

#[test]
fn recorded_streams_say_what_their_models_wrote() {
    let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut silent = Vec::new();
    for case in cases() {
        let body = put(&whole(case.operation, case.shape, &case.body), MUCH, &no_secrets());
        let name = case.name.split(" run ").next().unwrap().replace('"', "");
        assert_eq!((body.bytes, body.truncated, body.is_base64), (case.body.len() as u64, false, false), "{name}");
        if body.reassembled {
            let texts = written.entry(name).or_default();
            if !texts.contains(&body.text) {
                texts.push(body.text);
            }
        } else {
            assert_eq!(body.text.as_bytes(), case.body, "{name}");
            if case.shape != Shape::Json {
                silent.push(name);
            }
        }
    }
    let expected: BTreeMap<String, Vec<String>> = RECORDED
        .iter()
        .map(|(name, texts)| ((*name).to_owned(), texts.iter().map(|text| (*text).to_owned()).collect()))
        .collect();
    assert_eq!(written, expected);
    silent.sort_unstable();
    silent.dedup();
    assert_eq!(silent, SILENT);
}

/// What a stream of these events says.
fn said(operation: Operation, events: &[&str]) -> String {
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let body = put(&whole(operation, Shape::Sse, stream.as_bytes()), MUCH, &no_secrets());
    assert!(body.reassembled && !body.truncated, "{body:?}");
    body.text
}

fn chat(deltas: &[&str]) -> String {
    let events: Vec<String> =
        deltas.iter().map(|delta| format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#)).collect();
    said(Operation::OpenAiChat, &events.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_chat_is_read_in_every_spelling_of_its_kin() {
    for (deltas, expected) in [
        (&[r#"{"content":null,"refusal":"I "}"#, r#"{"refusal":"won't."}"#][..], "[refusal] I won't."),
        // Who sends reasoning under both names repeats it.
        (&[r#"{"reasoning":"Hm","reasoning_content":"Hm"}"#, r#"{"reasoning":"!"}"#], "[reasoning] Hm!"),
        (
            &[
                r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"So"}]}]}"#,
                r#"{"content":[{"type":"text","text":"A"},{"type":"text","text":"B"}]}"#,
                r#"{"content":"C"}"#,
            ],
            "[reasoning] So\nABC",
        ),
        (
            &[r#"{"function_call":{"name":"f","arguments":""}}"#, r#"{"function_call":{"arguments":"{}"}}"#],
            "[call] f({})",
        ),
        (
            &[r#"{"tool_calls":[{"index":0,"id":"1","type":"custom","custom":{"name":"f","input":"x y"}}]}"#],
            "[call] f(x y)",
        ),
        // Calls without an index, each whole; arguments as an object.
        (
            &[
                r#"{"tool_calls":[{"id":"1","function":{"name":"f","arguments":"1"}},{"id":"2","function":{"name":"g","arguments":{"a":2}}}]}"#,
            ],
            "[call] f(1)\n[call] g({\"a\":2})",
        ),
        // Calls in turns.
        (
            &[
                r#"{"content":"On it.","tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":"1"}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"2","function":{"name":"g","arguments":"2"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"1"}},{"index":1,"function":{"arguments":"2"}}]}"#,
            ],
            "On it.\n[call] f(11)\n[call] g(22)",
        ),
        (&[r#"{"audio":{"id":"a","data":"AAAA","transcript":"Hello"}}"#, r#"{"audio":{"transcript":"."}}"#], "Hello."),
        // Halves of a surrogate pair in two events, and a key twice.
        (&[r#"{"content":"\ud83e"}"#, r#"{"content":"x","content":"\udd80"}"#], "\u{1F980}"),
    ] {
        assert_eq!(chat(deltas), expected, "{deltas:?}");
    }
}

#[test]
fn choices_come_in_order_and_each_with_its_parts() {
    let text = said(
        Operation::OpenAiChat,
        &[
            r#"{"choices":[{"index":1,"delta":{"content":"B"}},{"index":0,"delta":{"reasoning":"a"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"A"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#,
        ],
    );
    assert_eq!(text, "[reasoning] a\nA\n[choice 1]\nBb");
    assert_eq!(said(Operation::OpenAiCompletions, &[r#"{"choices":[{"index":2,"text":"two"}]}"#]), "[choice 2]\ntwo");
}

#[test]
fn responses_are_read_by_their_items() {
    let text = said(
        Operation::OpenAiResponses,
        &[
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning"}}"#,
            r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"One"}"#,
            r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":1,"delta":"Two"}"#,
            r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"web_search_call","id":"ws"}}"#,
            r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","name":"f"}}"#,
            r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"a\""}"#,
            r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":":1}"}"#,
            r#"{"type":"response.function_call_arguments.done","output_index":2,"arguments":"{\"a\":1}"}"#,
            r#"{"type":"response.output_item.added","output_index":3,"item":{"type":"mcp_call","name":"g"}}"#,
            r#"{"type":"response.mcp_call_arguments.done","output_index":3,"arguments":"{}"}"#,
            r#"{"type":"response.output_item.added","output_index":4,"item":{"type":"code_interpreter_call"}}"#,
            r#"{"type":"response.code_interpreter_call_code.done","output_index":4,"code":"print(1)"}"#,
            r#"{"type":"response.output_text.delta","output_index":5,"content_index":0,"delta":"Hel"}"#,
            r#"{"type":"response.output_text.delta","output_index":5,"content_index":0,"delta":"lo"}"#,
            r#"{"type":"response.output_text.done","output_index":5,"content_index":0,"text":"Hello"}"#,
            r#"{"type":"response.output_text.done","output_index":5,"content_index":1,"text":" there"}"#,
            r#"{"type":"response.refusal.delta","output_index":5,"content_index":2,"delta":"No."}"#,
            r#"{"type":"response.refusal.done","output_index":5,"content_index":2,"refusal":"No."}"#,
            r#"{"type":"response.refusal.done","output_index":6,"content_index":0,"refusal":"Never."}"#,
            r#"{"type":"response.unheard_of.delta","output_index":5,"content_index":2,"delta":"?"}"#,
        ],
    );
    let lines = [
        "[reasoning] One",
        "[reasoning] Two",
        "[call] web_search_call()",
        "[call] f({\"a\":1})",
        "[call] g({})",
        "[call] code_interpreter_call(print(1))",
        "Hello there",
        "[refusal] No.",
        "[refusal] Never.",
    ];
    assert_eq!(text, lines.join("\n"));
}

#[test]
fn blocks_of_anthropic_are_text_thinking_or_calls() {
    let text = said(
        Operation::AnthropicMessages,
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"AAAA"}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"Let "}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"me see"}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"cited_text":"x"}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":", it is so."}}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"q\":1}"}}"#,
            r#"{"type":"content_block_start","index":4,"content_block":{"type":"web_search_tool_result","content":[{"text":"found"}]}}"#,
            r#"{"type":"content_block_start","index":5,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}"#,
        ],
    );
    assert_eq!(text, "Let me see, it is so.\n[call] web_search({\"q\":1})\n[call] f({\"a\":1})");
}

#[test]
fn parts_of_gemini_go_on_where_the_last_chunk_ended() {
    let part = |part: &str| format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}"#);
    let chunks = [
        part(r#"{"text":"Hm","thought":true},{"text":"Let me"}"#),
        part(r#"{"text":" run"},{"text":" it."},{"executableCode":{"language":"PYTHON","code":"print(1)"}}"#),
        part(r#"{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1"}},{"text":"1"}"#),
        part(r#"{"functionCall":{"name":"f"}},{"functionCall":{"name":"g","args":{"a":1}}}"#),
    ];
    let expected =
        "[reasoning] Hm\nLet me run it.\n[call] executableCode(print(1))\n1\n[call] f()\n[call] g({\"a\":1})";
    let events: Vec<&str> = chunks.iter().map(String::as_str).collect();
    assert_eq!(said(Operation::GeminiStream, &events), expected);
    let array = format!("[{}]", chunks.join("\n,\r\n"));
    let body = put(&whole(Operation::GeminiStream, Shape::JsonArray, array.as_bytes()), MUCH, &no_secrets());
    assert_eq!((body.text.as_str(), body.reassembled), (expected, true));
}

#[test]
fn lines_of_ollama_are_those_of_chat_and_of_generate() {
    let lines = concat!(
        "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"Hm\"},\"done\":false}\n",
        "{\"message\":{\"content\":\"Yes\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]}}\n",
        "{\"thinking\":\"So\",\"response\":\"ok\",\"done\":true,\"context\":[1,2]}",
    );
    let body = put(&whole(Operation::OllamaChat, Shape::Ndjson, lines.as_bytes()), MUCH, &no_secrets());
    assert_eq!(body.text, "[reasoning] Hm\nYes\n[call] f({\"a\":1})\n[reasoning] So\nok");
}

#[test]
fn what_goes_wrong_in_mid_stream_is_shown() {
    let text = |rest: &str| {
        let stream = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"Half\"}}}}]}}\n\n{rest}");
        let body = put(&whole(Operation::OpenAiChat, Shape::Sse, stream.as_bytes()), MUCH, &no_secrets());
        assert!(body.reassembled, "{rest}");
        body.text
    };
    for (rest, expected) in [
        ("data: {\"error\":{\"code\":500}}\n\n", "Half\n[error] {\"code\":500}"),
        ("data: {\"error\":\"overloaded\"}\n\n", "Half\n[error] overloaded"),
        ("event: error\ndata: {\"detail\": 1}\n\n", "Half\n[error] {\"detail\": 1}"),
        ("event: error\ndata: timed out\n\n", "Half\n[error] timed out"),
        ("data: Bad Gateway\n\n", "Half\n[data] Bad Gateway"),
        ("data: {\"error\":null,\"choices\":[]}\n\n", "Half"),
        ("data: {\"error\":{}}\n\n", "Half"),
        ("data:\n\ndata: [DONE]\n\n", "Half"),
        // The beginning of an event is no event; one that lacks only its empty line is.
        ("data: {\"choices\":[{\"delta\":{\"cont", "Half"),
        ("data: {\"choices\":[{\"delta\":{\"content\":\"!\"}}]}", "Half!"),
        ("data: {\"error\":{\"code\":500}}", "Half\n[error] {\"code\":500}"),
    ] {
        assert_eq!(text(rest), expected);
    }
}

#[test]
fn an_event_that_is_not_utf_8_is_read_as_clients_read_it() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"caf\xE9!\"}}]}\n\n";
    let body = put(&whole(Operation::OpenAiChat, Shape::Sse, stream), MUCH, &no_secrets());
    assert_eq!((body.text.as_str(), body.reassembled), ("caf\u{FFFD}!", true));
}

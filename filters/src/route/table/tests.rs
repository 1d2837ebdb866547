use proptest::prelude::*;

use super::*;

fn table() -> RouteTable {
    RouteTable::new(Vec::new())
}

fn configured(path: &str, operation: Operation) -> ConfiguredRoute {
    ConfiguredRoute { path: path.into(), operation, channels: Vec::new(), upstream_path: None, cors: None }
}

#[test]
fn every_path_of_the_interface_has_its_operation() {
    use Operation::{
        AnthropicCountTokens, AnthropicMessages, GeminiCountTokens, GeminiEmbed, GeminiGenerate, GeminiStream, Models,
        OpenAiChat, OpenAiCompletions, OpenAiEmbeddings, OpenAiOther, OpenAiResponses,
    };
    use UpstreamPath::{Fixed, Gemini, GeminiChat, None as Local, Same};
    let cases = [
        (Method::POST, "/v1/chat/completions", "/v1/chat/completions", OpenAiChat, None, Same),
        (Method::POST, "/v1/completions", "/v1/completions", OpenAiCompletions, None, Same),
        (Method::POST, "/v1/embeddings", "/v1/embeddings", OpenAiEmbeddings, None, Same),
        (Method::POST, "/v1/responses", "/v1/responses", OpenAiResponses, None, Same),
        (Method::GET, "/v1/responses/resp_1", "/v1/responses/{id}", OpenAiOther, None, Same),
        (Method::POST, "/v1/responses/resp_1/cancel", "/v1/responses/{id}", OpenAiOther, None, Same),
        (Method::DELETE, "/v1/responses/resp_1", "/v1/responses/{id}", OpenAiOther, None, Same),
        (Method::GET, "/v1/files", "/v1/files", OpenAiOther, None, Same),
        (Method::DELETE, "/v1/files/file-1", "/v1/files", OpenAiOther, None, Same),
        (Method::GET, "/v1/files/file-1/content", "/v1/files", OpenAiOther, None, Same),
        (Method::POST, "/v1/batches", "/v1/batches", OpenAiOther, None, Same),
        (Method::POST, "/v1/batches/b1/cancel", "/v1/batches", OpenAiOther, None, Same),
        (Method::POST, "/v1/images/generations", "/v1/images", OpenAiOther, None, Same),
        (Method::POST, "/v1/audio/speech", "/v1/audio", OpenAiOther, None, Same),
        (Method::POST, "/v1/moderations", "/v1/moderations", OpenAiOther, None, Same),
        (Method::POST, "/v1/messages", "/v1/messages", AnthropicMessages, None, Same),
        (Method::POST, "/api/v1/messages", "/api/v1/messages", AnthropicMessages, None, Fixed("/v1/messages")),
        (Method::POST, "/claude/v1/messages", "/claude/v1/messages", AnthropicMessages, None, Fixed("/v1/messages")),
        (Method::POST, "/v1/messages/count_tokens", "/v1/messages/count_tokens", AnthropicCountTokens, None, Same),
        (
            Method::POST,
            "/api/v1/messages/count_tokens",
            "/api/v1/messages/count_tokens",
            AnthropicCountTokens,
            None,
            Fixed("/v1/messages/count_tokens"),
        ),
        (
            Method::POST,
            "/claude/v1/messages/count_tokens",
            "/claude/v1/messages/count_tokens",
            AnthropicCountTokens,
            None,
            Fixed("/v1/messages/count_tokens"),
        ),
        (
            Method::POST,
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "/v1beta/models/{model}:generateContent",
            GeminiGenerate,
            Some("gemini-2.5-pro"),
            Gemini { models: "/v1beta/models", verb: "generateContent" },
        ),
        (
            Method::POST,
            "/v1beta/models/g:streamGenerateContent",
            "/v1beta/models/{model}:streamGenerateContent",
            GeminiStream,
            Some("g"),
            Gemini { models: "/v1beta/models", verb: "streamGenerateContent" },
        ),
        (
            Method::POST,
            "/v1beta/models/g:embedContent",
            "/v1beta/models/{model}:embedContent",
            GeminiEmbed,
            Some("g"),
            Gemini { models: "/v1beta/models", verb: "embedContent" },
        ),
        (
            Method::POST,
            "/v1beta/models/g:countTokens",
            "/v1beta/models/{model}:countTokens",
            GeminiCountTokens,
            Some("g"),
            Gemini { models: "/v1beta/models", verb: "countTokens" },
        ),
        (
            Method::POST,
            "/v1beta/models/g:batchEmbedContents",
            "/v1beta/models/{model}:batchEmbedContents",
            GeminiEmbed,
            Some("g"),
            Gemini { models: "/v1beta/models", verb: "batchEmbedContents" },
        ),
        (
            Method::POST,
            "/v1/models/qwen3:8b:generateContent",
            "/v1/models/{model}:generateContent",
            GeminiGenerate,
            Some("qwen3:8b"),
            Gemini { models: "/v1/models", verb: "generateContent" },
        ),
        (
            Method::POST,
            "/v1/models/g:streamGenerateContent",
            "/v1/models/{model}:streamGenerateContent",
            GeminiStream,
            Some("g"),
            Gemini { models: "/v1/models", verb: "streamGenerateContent" },
        ),
        (
            Method::POST,
            "/v1/models/g:embedContent",
            "/v1/models/{model}:embedContent",
            GeminiEmbed,
            Some("g"),
            Gemini { models: "/v1/models", verb: "embedContent" },
        ),
        (
            Method::POST,
            "/v1/models/g:countTokens",
            "/v1/models/{model}:countTokens",
            GeminiCountTokens,
            Some("g"),
            Gemini { models: "/v1/models", verb: "countTokens" },
        ),
        (
            Method::POST,
            "/v1/models/g:batchEmbedContents",
            "/v1/models/{model}:batchEmbedContents",
            GeminiEmbed,
            Some("g"),
            Gemini { models: "/v1/models", verb: "batchEmbedContents" },
        ),
        (Method::POST, "/gemini/v1/chat", "/gemini/v1/chat", GeminiGenerate, None, GeminiChat),
        (Method::GET, "/v1/models", "/v1/models", Models, None, Local),
        (Method::GET, "/v1/models/gpt-4o", "/v1/models/{id}", Models, Some("gpt-4o"), Local),
        (Method::GET, "/v1/models/meta/llama-3", "/v1/models/{id}", Models, Some("meta/llama-3"), Local),
        (Method::GET, "/v1/models/ft:gpt-4o:org", "/v1/models/{id}", Models, Some("ft:gpt-4o:org"), Local),
        (Method::GET, "/v1/models/ft%3Agpt", "/v1/models/{id}", Models, Some("ft%3Agpt"), Local),
        (Method::GET, "/v1beta/models", "/v1beta/models", Models, None, Local),
        (Method::GET, "/v1beta/models/g", "/v1beta/models/{model}", Models, Some("g"), Local),
        (Method::POST, "/v1/images/edits", "/v1/images", OpenAiOther, None, Same),
        (Method::GET, "/v1/batches/b1", "/v1/batches", OpenAiOther, None, Same),
    ];
    let table = table();
    let names = table.names();
    for (method, path, name, operation, model, upstream) in cases {
        let found = table.find(&method, path).unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
        assert_eq!(
            (found.name, found.operation, found.model, found.upstream),
            (name, operation, model, upstream),
            "{path}"
        );
        assert_eq!(names[found.index], name, "{path}");
        assert!(found.channels.is_empty() && found.cors.is_none());
    }
}

#[test]
fn other_methods_are_told_which_are_taken() {
    for (method, path, allow) in [
        (Method::GET, "/v1/chat/completions", "POST"),
        (Method::PUT, "/v1/messages", "POST"),
        (Method::GET, "/gemini/v1/chat", "POST"),
        (Method::GET, "/v1beta/models/g:generateContent", "POST"),
        (Method::PATCH, "/v1/files", "GET, POST, DELETE"),
        (Method::POST, "/v1/models", "GET"),
        (Method::DELETE, "/v1/models/gpt-4o", "GET"),
        (Method::POST, "/v1beta/models", "GET"),
        (Method::TRACE, "/v1/models", "GET"),
    ] {
        let error = table().find(&method, path).unwrap_err();
        assert_eq!(error, RouteError::MethodNotAllowed { allow }, "{method} {path}");
        assert!(table().find_any_method(path).is_ok(), "{path}");
    }
}

#[test]
fn what_is_not_a_route_is_not_found() {
    for path in [
        "/",
        "/v1",
        "/v1/chat",
        "/v1/chat/completions/x",
        "/v1/chat/completionsx",
        "/V1/chat/completions",
        "/v1/filesystem",
        "/v1/images",
        "/v1/audio",
        "/v1/moderations/x",
        "/v1/messages/batches",
        "/claude/v1/chat/completions",
        "/v1beta/models/:generateContent",
        "/v1beta/models/a/b:generateContent",
        "/v1/models/:countTokens",
        "/v1beta/chat",
        "/admin/api/keys",
    ] {
        assert_eq!(table().find(&Method::POST, path), Err(RouteError::NotFound), "{path}");
        assert_eq!(table().find_any_method(path), Err(RouteError::NotFound), "{path}");
    }
}

#[test]
fn only_one_spelling_of_a_path_is_canonical() {
    for path in [
        "",
        "v1/models",
        "*",
        "//",
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/./v1/models",
        "/v1/../admin",
        "/v1/models/..",
        "/v1/models/.",
        "/v1\\models",
        "/v1/%2e%2e/admin",
        "/v1/%2E/models",
        "/v1%2fmodels",
        "/v1%2Fmodels",
        "/v1%5Cmodels",
        "/v1/%6dodels",
        "/v1/models/a%2Db",
        "/v1/models/%7E",
        "/v1/models/%5F",
        "/v1/models/a%252Fb",
        "/v1/models/%00",
        "/v1/models/%0d%0a",
        "/v1/models/%7f",
        "/v1/models/%",
        "/v1/models/%2",
        "/v1/models/%zz",
        "/v1/models/%+1",
        "/v1/models/a b",
        "/v1/models/a\tb",
        "/v1/models/a\u{7f}",
        "/v1/models/é",
        "/v1/models?x=1",
        "/v1/models#x",
        "/v1/models/{id}",
    ] {
        assert!(!is_canonical(path), "{path:?}");
        assert_eq!(table().find(&Method::GET, path), Err(RouteError::NotCanonical), "{path:?}");
    }
    for path in
        ["/", "/a", "/a.b", "/...", "/.well-known/x", "/a%3Ab", "/a%20b", "/%E9%80%9A", "/a%3ab", "/~a!$&'()*+,;=:@"]
    {
        assert!(is_canonical(path), "{path:?}");
    }
}

#[test]
fn a_model_that_the_upstream_would_decode_is_not_canonical() {
    let path = "/v1beta/models/gemini%3Apro:generateContent";
    assert_eq!(table().find(&Method::POST, path), Err(RouteError::NotCanonical));
}

#[test]
fn a_configured_route_wins_and_brings_its_settings() {
    let cors = CorsPolicy { origins: vec!["https://app.example".into()] };
    let table = RouteTable::new(vec![
        ConfiguredRoute {
            path: "/proxy/miniai/v2/chat/completions".into(),
            operation: Operation::OpenAiChat,
            channels: vec!["miniai".into()],
            upstream_path: Some("/miniai/v2/chat/completions".into()),
            cors: Some(cors.clone()),
        },
        configured("/v1/chat/completions", Operation::OllamaChat),
        configured("/v1/chat/completions", Operation::OpenAiChat),
    ]);
    let found = table.find(&Method::POST, "/proxy/miniai/v2/chat/completions").unwrap();
    assert_eq!(
        found,
        Match {
            index: BUILT_IN.len(),
            name: "/proxy/miniai/v2/chat/completions",
            operation: Operation::OpenAiChat,
            model: None,
            upstream: UpstreamPath::Fixed("/miniai/v2/chat/completions"),
            channels: &["miniai".to_owned()],
            cors: Some(&cors),
        }
    );
    assert_eq!(table.names()[found.index], found.name);
    let found = table.find(&Method::POST, "/v1/chat/completions").unwrap();
    assert_eq!((found.index, found.operation), (BUILT_IN.len() + 1, Operation::OllamaChat));
    assert_eq!(
        table.find(&Method::GET, "/proxy/miniai/v2/chat/completions"),
        Err(RouteError::MethodNotAllowed { allow: "POST" })
    );
    assert_eq!(table.names().len(), BUILT_IN.len() + 3);
}

#[test]
fn a_configured_route_asks_for_its_operations_own_path() {
    use Operation::{
        AnthropicCountTokens, AnthropicMessages, GeminiCountTokens, GeminiEmbed, GeminiGenerate, GeminiStream, Models,
        OllamaChat, OpenAiChat, OpenAiCompletions, OpenAiEmbeddings, OpenAiOther, OpenAiResponses,
    };
    let gemini = |verb| UpstreamPath::Gemini { models: "/v1beta/models", verb };
    for (path, operation, model, upstream) in [
        ("/x/chat", OpenAiChat, None, UpstreamPath::Fixed("/v1/chat/completions")),
        ("/x/completions", OpenAiCompletions, None, UpstreamPath::Fixed("/v1/completions")),
        ("/x/embeddings", OpenAiEmbeddings, None, UpstreamPath::Fixed("/v1/embeddings")),
        ("/x/responses", OpenAiResponses, None, UpstreamPath::Fixed("/v1/responses")),
        ("/x/files", OpenAiOther, None, UpstreamPath::Same),
        ("/api/chat", OllamaChat, None, UpstreamPath::Fixed("/api/chat")),
        ("/api/generate", OllamaChat, None, UpstreamPath::Fixed("/api/generate")),
        ("/x/messages", AnthropicMessages, None, UpstreamPath::Fixed("/v1/messages")),
        ("/x/count", AnthropicCountTokens, None, UpstreamPath::Fixed("/v1/messages/count_tokens")),
        ("/x/g:generateContent", GeminiGenerate, Some("g"), gemini("generateContent")),
        ("/x/gemini", GeminiStream, None, gemini("streamGenerateContent")),
        ("/x/:embed", GeminiEmbed, None, gemini("embedContent")),
        ("/x/tokens", GeminiCountTokens, None, gemini("countTokens")),
        ("/x/models", Models, None, UpstreamPath::None),
    ] {
        let table = RouteTable::new(vec![configured(path, operation)]);
        let found = table.find_any_method(path).unwrap();
        assert_eq!((found.operation, found.model, found.upstream), (operation, model, upstream), "{path}");
    }
}

#[test]
fn names_are_unique() {
    let table = table();
    let names = table.names();
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!((names.len(), unique.len()), (BUILT_IN.len(), BUILT_IN.len()));
}

#[test]
fn an_origin_is_allowed_byte_for_byte_or_by_a_star() {
    let listed = CorsPolicy { origins: vec!["https://a.example".into(), "https://b.example".into()] };
    assert_eq!(listed.allow("https://b.example"), Some("https://b.example"));
    assert_eq!(listed.allow("https://B.example"), None);
    assert_eq!(listed.allow("https://a.example.evil"), None);
    assert_eq!(listed.allow("null"), None);
    let any = CorsPolicy { origins: vec!["https://a.example".into(), "*".into()] };
    assert_eq!(any.allow("https://c.example"), Some("*"));
    assert_eq!(CorsPolicy { origins: Vec::new() }.allow("*"), None);
}

/// What the laxest reader could make of a path: decoded until nothing changes, `\` read as `/`.
fn laxly_read(path: &str) -> String {
    let mut read = path.to_owned();
    loop {
        let mut decoded = Vec::new();
        let mut rest = read.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
            match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                Some(value) if byte == b'%' => {
                    decoded.push(value);
                    rest = &after[2..];
                }
                _ => {
                    decoded.push(byte);
                    rest = after;
                }
            }
        }
        let decoded = String::from_utf8_lossy(&decoded).replace('\\', "/");
        if decoded == read {
            return read;
        }
        read = decoded;
    }
}

proptest! {
    #[test]
    fn no_reader_finds_other_segments_in_a_canonical_path(path in "/(/|[a-c]/|\\.|%2[eEfF5]|%5[cC]|%|[a-c0-9:]|%[0-9a-fA-F]{2}|\\PC){0,12}") {
        if is_canonical(&path) && path != "/" {
            let read = laxly_read(&path);
            prop_assert_eq!(read.split('/').count(), path.split('/').count());
            prop_assert!(read.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | "..")), "{}", read);
        }
    }

    #[test]
    fn a_model_is_a_piece_of_its_path(model in "[a-z0-9.:@/-]{1,20}", verb in "(:generateContent|:countTokens|:other|)") {
        let path = format!("/v1beta/models/{model}{verb}");
        let table = table();
        if let Ok(found) = table.find_any_method(&path) {
            let named = found.model.unwrap();
            prop_assert!(!named.is_empty() && path["/v1beta/models/".len()..].starts_with(named));
            prop_assert_eq!(found.operation == Operation::Models, named.len() == path.len() - "/v1beta/models/".len());
        }
    }
}

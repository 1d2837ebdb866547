use std::collections::HashSet;

use super::*;

fn all() -> Vec<Refusal> {
    vec![
        Refusal::MissingKey,
        Refusal::UnknownKey,
        Refusal::MalformedKey,
        Refusal::KeysDisagree,
        Refusal::KeyDisabled,
        Refusal::KeyExpired,
        Refusal::ProtocolNotPermitted,
        Refusal::ModelNotPermitted { model: "m".into() },
        Refusal::ModelMissing,
        Refusal::ModelNotFound { model: "m".into() },
        Refusal::ModelNotPriced { model: "m".into() },
        Refusal::ChannelNotPermitted,
        Refusal::NoChannel,
        Refusal::BadBody { what: "it is no JSON object".into() },
        Refusal::BodyTooLarge { limit: 1024 },
        Refusal::BodyIncomplete,
        Refusal::ChannelsDraining,
        Refusal::Overloaded,
        Refusal::LedgerFull,
        Refusal::NotFound,
        Refusal::NotCanonical,
        Refusal::MethodNotAllowed { allow: "POST" },
        Refusal::UpstreamUnreachable,
        Refusal::UpstreamTimeout,
        Refusal::UpstreamBroken,
        Refusal::Internal,
    ]
}

#[test]
fn each_refusal_has_its_status_and_its_words_in_each_protocol() {
    let invalid = "invalid_request_error";
    let expected = [
        ("missing_key", 401, (invalid, None, Some("invalid_api_key")), "authentication_error", "UNAUTHENTICATED"),
        ("unknown_key", 401, (invalid, None, Some("invalid_api_key")), "authentication_error", "UNAUTHENTICATED"),
        ("malformed_key", 401, (invalid, None, Some("invalid_api_key")), "authentication_error", "UNAUTHENTICATED"),
        ("keys_disagree", 400, (invalid, None, None), invalid, "INVALID_ARGUMENT"),
        (
            "key_disabled",
            403,
            (invalid, None, Some("insufficient_permissions")),
            "permission_error",
            "PERMISSION_DENIED",
        ),
        (
            "key_expired",
            403,
            (invalid, None, Some("insufficient_permissions")),
            "permission_error",
            "PERMISSION_DENIED",
        ),
        (
            "protocol_not_permitted",
            403,
            (invalid, None, Some("insufficient_permissions")),
            "permission_error",
            "PERMISSION_DENIED",
        ),
        (
            "model_not_permitted",
            403,
            (invalid, Some("model"), Some("model_not_found")),
            "permission_error",
            "PERMISSION_DENIED",
        ),
        (
            "model_missing",
            400,
            (invalid, Some("model"), Some("missing_required_parameter")),
            invalid,
            "INVALID_ARGUMENT",
        ),
        ("model_not_found", 404, (invalid, Some("model"), Some("model_not_found")), "not_found_error", "NOT_FOUND"),
        ("model_not_priced", 400, (invalid, Some("model"), Some("model_not_priced")), invalid, "INVALID_ARGUMENT"),
        (
            "channel_not_permitted",
            403,
            (invalid, None, Some("insufficient_permissions")),
            "permission_error",
            "PERMISSION_DENIED",
        ),
        ("no_channel", 404, (invalid, None, None), "not_found_error", "NOT_FOUND"),
        ("bad_body", 400, (invalid, None, None), invalid, "INVALID_ARGUMENT"),
        ("body_too_large", 413, (invalid, None, None), "request_too_large", "INVALID_ARGUMENT"),
        ("body_incomplete", 408, (invalid, None, None), invalid, "INVALID_ARGUMENT"),
        ("channels_draining", 503, ("server_error", None, None), "overloaded_error", "UNAVAILABLE"),
        ("overloaded", 503, ("server_error", None, Some("overloaded")), "overloaded_error", "UNAVAILABLE"),
        ("ledger_full", 503, ("server_error", None, None), "overloaded_error", "UNAVAILABLE"),
        ("not_found", 404, (invalid, None, Some("unknown_url")), "not_found_error", "NOT_FOUND"),
        ("not_canonical", 400, (invalid, None, None), invalid, "INVALID_ARGUMENT"),
        ("method_not_allowed", 405, (invalid, None, Some("method_not_supported")), invalid, "INVALID_ARGUMENT"),
        ("upstream_unreachable", 502, ("server_error", None, None), "api_error", "UNAVAILABLE"),
        ("upstream_timeout", 504, ("server_error", None, None), "timeout_error", "DEADLINE_EXCEEDED"),
        ("upstream_broken", 502, ("server_error", None, None), "api_error", "UNAVAILABLE"),
        ("internal", 500, ("server_error", None, None), "api_error", "INTERNAL"),
    ];
    let found: Vec<_> = all().iter().map(|r| (r.reason(), r.status(), r.openai(), r.anthropic(), r.gemini())).collect();
    assert_eq!(found, expected);
    assert_eq!(expected.iter().map(|(reason, ..)| reason).collect::<HashSet<_>>().len(), expected.len());
}

#[test]
fn openai_gets_its_shape() {
    assert_eq!(
        Refusal::UnknownKey.body(Protocol::OpenAi, "00ff"),
        r#"{"error":{"message":"This API key is not known here. Check that it is whole, and that it was made here. Request id: 00ff","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#
    );
    assert_eq!(
        Refusal::ModelNotFound { model: "gpt-\"9".into() }.body(Protocol::OpenAi, "00ff"),
        r#"{"error":{"message":"The model 'gpt-\"9' is not served here. GET /v1/models lists those that are. Request id: 00ff","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
    );
    assert_eq!(
        Refusal::UpstreamTimeout.body(Protocol::OpenAi, "00ff"),
        r#"{"error":{"message":"The upstream provider did not answer in time. Try again later. Request id: 00ff","type":"server_error","param":null,"code":null}}"#
    );
}

#[test]
fn anthropic_gets_its_shape() {
    assert_eq!(
        Refusal::KeyExpired.body(Protocol::Anthropic, "00ff"),
        r#"{"type":"error","error":{"type":"permission_error","message":"This API key has expired. Ask whoever gave it to you for another one. Request id: 00ff"},"request_id":"00ff"}"#
    );
    assert_eq!(
        Refusal::BodyTooLarge { limit: 1024 }.body(Protocol::Anthropic, "00ff"),
        r#"{"type":"error","error":{"type":"request_too_large","message":"The request body is larger than the 1024 bytes that are taken. Send a smaller one. Request id: 00ff"},"request_id":"00ff"}"#
    );
}

#[test]
fn gemini_gets_its_shape() {
    assert_eq!(
        Refusal::MissingKey.body(Protocol::Gemini, "00ff"),
        r#"{"error":{"code":401,"message":"No API key was sent. Send yours as 'Authorization: Bearer', 'x-api-key', 'x-goog-api-key' or '?key='. Request id: 00ff","status":"UNAUTHENTICATED"}}"#
    );
    assert_eq!(
        Refusal::BadBody { what: "'model' stands in it twice".into() }.body(Protocol::Gemini, "00ff"),
        r#"{"error":{"code":400,"message":"The request body cannot be used: 'model' stands in it twice. Correct it and resend. Request id: 00ff","status":"INVALID_ARGUMENT"}}"#
    );
}

#[test]
fn every_body_is_json_and_its_message_ends_with_the_request_id() {
    for refusal in all() {
        for protocol in Protocol::ALL {
            let body: serde_json::Value = serde_json::from_str(&refusal.body(protocol, "00ff")).unwrap();
            let message = body.pointer("/error/message").and_then(serde_json::Value::as_str).unwrap();
            assert_eq!(message, format!("{} Request id: 00ff", refusal.message()), "{refusal:?}");
            assert!(!message.contains("  ") && !message.contains('\n'), "{message}");
        }
    }
}

#[test]
fn an_event_is_one_event_of_its_protocol() {
    for refusal in all() {
        for protocol in Protocol::ALL {
            let mut events = Vec::new();
            let text = refusal.event(protocol, "00ff");
            crate::sse::Scanner::new().feed(text.as_bytes(), |event| {
                events.push((event.name.to_vec(), String::from_utf8(event.data.to_vec()).unwrap()));
            });
            let name: &[u8] = if protocol == Protocol::Anthropic { b"error" } else { b"" };
            assert_eq!(events, [(name.to_vec(), refusal.body(protocol, "00ff"))], "{refusal:?}");
        }
    }
}

#[test]
fn a_model_in_a_message_is_cut_and_holds_no_control() {
    let message = |model: &str| Refusal::ModelNotPermitted { model: model.into() }.message();
    let said =
        |model: &str| format!("This API key may not use the model '{model}'. GET /v1/models lists those that it may.");
    assert_eq!(message(&"é".repeat(128)), said(&"é".repeat(128)));
    assert_eq!(message(&"é".repeat(129)), said(&("é".repeat(128) + "…")));
    assert_eq!(message("a\r\nb\u{1b}[2J"), said("a\u{fffd}\u{fffd}b\u{fffd}[2J"));
}

#[test]
fn only_401_405_and_503_have_headers() {
    for refusal in all() {
        let expected = match refusal.status() {
            401 => vec![(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="weir""#))],
            405 => vec![(ALLOW, HeaderValue::from_static("POST"))],
            503 => vec![(RETRY_AFTER, HeaderValue::from_static("1"))],
            _ => vec![],
        };
        assert_eq!(refusal.headers(Protocol::OpenAi, 0), expected, "{refusal:?}");
    }
}

#[test]
fn errors_of_credentials_and_routes_are_refusals() {
    assert_eq!(Refusal::from(CredentialError::Missing), Refusal::MissingKey);
    assert_eq!(Refusal::from(CredentialError::Disagree), Refusal::KeysDisagree);
    assert_eq!(Refusal::from(CredentialError::Malformed), Refusal::MalformedKey);
    assert_eq!(Refusal::from(RouteError::NotCanonical), Refusal::NotCanonical);
    assert_eq!(Refusal::from(RouteError::NotFound), Refusal::NotFound);
    let allow = "GET";
    assert_eq!(Refusal::from(RouteError::MethodNotAllowed { allow }), Refusal::MethodNotAllowed { allow });
}

//! What every recorded answer costs: by hand in a table, and in the ledger.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir::config::parse_prices;
use weir::ledger::{Settlement, decode_segment};

use crate::support::{
    Gateway, GatewayBuilder, Script, Upstream, answer, anthropic, chunked, eventually, gateway, gemini, openai,
    upstream,
};

/// Prices for the fixtures. Some are those that providers publish, some have digits that do not come out even.
const PRICES: &str = r#"
models:
  "count_tokens.*": { per_request: "1" }
  # Its prompt has 11,060 tokens with what is cached: one above the tier, and at the next glob's just not.
  "cached_stream.anthropic-*":
    input: "3"
    output: "15"
    cache_read: "0.30"
    cache_write_5m: "3.75"
    cache_write_1h: "6"
    tiers: [{ above: 11059, input: "6", output: "22.5", cache_read: "0.6" }]
  "*.anthropic-*": { input: "3", output: "15", cache_read: "0.30", cache_write_5m: "3.75", cache_write_1h: "6" }
  # The longest prompt of these has 1,520 tokens.
  "*.gemini-*":
    { input: "0.3", output: "2.5", cache_read: "0.03", reasoning: "3.5", tiers: [{ above: 1520, input: "99" }] }
  "*.deepseek-*": { input: "0.28", output: "0.42", cache_read: "0.028" }
  # A prompt of 32 tokens, 94 of 103 generated ones are reasoning.
  "*.xai-*":
    input: "3"
    output: "15"
    cache_read: "0.75"
    reasoning: "7.5"
    tiers: [{ above: 32, output: "99" }, { above: 31, output: "30" }]
  "*.ollama-*": { input: "0", output: "0" }
  "responses*":
    { input: "0.25", output: "2", cache_read: "0.025", cache_write_5m: "0.3125", per_request: "0.001" }
  "image.*": { input: "5", output: "40", per_image: "0.011" }
  "transcription*": { input: "1.25", output: "5", per_request: "0.006" }
  "embeddings.*": { input: "0.02", output: "0" }
  "chat*.openai-*": { input: "1.1", output: "4.4", cache_read: "0.275", reasoning: "8.8" }
  "*": { input: "0.1234567", output: "0.7654321", cache_read: "0.0123456" }
"#;

/// Bob's.
const RATE: &str = "1.2345";

/// By hand: what each run of each fixture costs, in billionths of a dollar, at the rate of 1 and at [`RATE`],
/// for a request of 400 bytes, which are counted as 100 tokens where nothing is reported. The images are two.
///
/// `anthropic/cached_stream`, run 0, for example: 12 tokens at 6 dollars a million, 9,000 from the cache at 0.6,
/// 1,024 written to that of five minutes at 3.75, 1,024 to that of an hour at 6, 27 generated at 22.5:
/// 72,000 + 5,400,000 + 3,840,000 + 6,144,000 + 607,500. `openai/reasoning_outside`: 24 × 3,000 + 8 × 750 +
/// 9 × 30,000 + 94 × 7,500; times 1.2345 it is 1,299,928.5, which is rounded up.
#[rustfmt::skip]
const COSTS: [(&str, &[(u64, u64)]); 58] = [
    ("anthropic/cached_stream.anthropic", &[(16_063_500, 19_830_391), (15_726_000, 19_413_747), (15_478_500, 19_108_208), (16_063_500, 19_830_391), (15_726_000, 19_413_747)]),
    ("anthropic/count_tokens.anthropic", &[(0, 0)]),
    ("anthropic/error_529.anthropic", &[(0, 0)]),
    ("anthropic/error_at_once.anthropic", &[(0, 0)]),
    ("anthropic/error_in_stream.anthropic", &[(135_000, 166_658)]),
    ("anthropic/server_tool_corrects_input.anthropic", &[(15_726_000, 19_413_747), (8_250_000, 10_184_625), (8_250_000, 10_184_625)]),
    ("anthropic/thinking_counted.anthropic", &[(753_000, 929_579)]),
    ("anthropic/tool_and_thinking_stream.anthropic", &[(2_751_000, 3_396_110), (1_551_000, 1_914_710)]),
    ("anthropic/write_without_ttl.anthropic", &[(14_955_000, 18_461_948)]),
    ("gemini/array_stream.gemini", &[(320_500, 395_657), (297_000, 366_647)]),
    ("gemini/blocked.gemini", &[(2_700, 3_333)]),
    ("gemini/count_tokens.gemini", &[(0, 0)]),
    ("gemini/embed.gemini", &[(30_000, 37_035)]),
    ("gemini/error_array.gemini", &[(0, 0), (0, 0)]),
    ("gemini/function_call_stream.gemini", &[(55_500, 68_515)]),
    ("gemini/generate.gemini", &[(55_500, 68_515)]),
    ("gemini/thoughts_and_cache_stream.gemini", &[(320_500, 395_657), (297_000, 366_647), (282_000, 348_129), (297_000, 366_647)]),
    ("ollama/chat.ollama", &[(0, 0)]),
    ("ollama/chat_stream.ollama", &[(0, 0), (0, 0), (0, 0)]),
    ("ollama/error_in_stream.ollama", &[(0, 0)]),
    ("ollama/no_counts.ollama", &[(0, 0)]),
    ("ollama/prompt_was_cached.ollama", &[(0, 0)]),
    ("openai/both_names.newapi", &[(8_988, 11_095)]),
    ("openai/cache_split_alone.deepseek", &[(4_732, 5_842)]),
    ("openai/cached_above_prompt.compatible", &[(2_321, 2_865)]),
    ("openai/chat.openai", &[(91_300, 112_710), (162_800, 200_977)]),
    ("openai/chat_float_usage.compatible", &[(3_778, 4_664)]),
    ("openai/chat_invalid_usage.openai", &[(162_800, 200_977)]),
    ("openai/chat_stream.azure", &[(4_889, 6_035), (13_111, 16_186)]),
    ("openai/chat_stream.groq", &[(6_593, 8_139)]),
    ("openai/chat_stream.mistral", &[(5_185, 6_401)]),
    ("openai/chat_stream.moonshot", &[(4_284, 5_289), (4_284, 5_289)]),
    ("openai/chat_stream.openai", &[(427_900, 528_243), (136_400, 168_386), (427_900, 528_243), (427_900, 528_243), (114_400, 141_227), (0, 0), (427_900, 528_243)]),
    ("openai/chat_stream.openrouter", &[(17_432, 21_520), (13_111, 16_186), (13_111, 16_186)]),
    ("openai/chat_stream_without_usage.openai", &[(162_800, 200_977), (0, 0), (162_800, 200_977)]),
    ("openai/chat_zero_usage.openai", &[(0, 0)]),
    ("openai/completions_stream.openai", &[(2_914, 3_597)]),
    ("openai/continuous_usage.vllm", &[(8_420, 10_394), (6_123, 7_559)]),
    ("openai/cr_and_many_data_lines.compatible", &[(4_593, 5_670)]),
    ("openai/crlf_and_bom.compatible", &[(4_593, 5_670)]),
    ("openai/embeddings.openai", &[(160, 198), (2_000, 2_469)]),
    ("openai/error_401.openai", &[(0, 0)]),
    ("openai/error_in_200.openrouter", &[(0, 0)]),
    ("openai/error_in_stream.openrouter", &[(13_111, 16_186)]),
    ("openai/image.openai", &[(32_945_000, 40_670_603)]),
    ("openai/reasoner_stream.deepseek", &[(36_288, 44_798), (30_520, 37_677)]),
    ("openai/reasoning_outside.xai", &[(1_053_000, 1_299_929)]),
    ("openai/responses.openai", &[(1_371_250, 1_692_808)]),
    ("openai/responses_cache_write.openai", &[(1_467_500, 1_811_629)]),
    ("openai/responses_error_stream.openai", &[(0, 0)]),
    ("openai/responses_failed_stream.openai", &[(1_371_250, 1_692_808)]),
    ("openai/responses_incomplete_stream.openai", &[(1_371_250, 1_692_808)]),
    ("openai/responses_stream.openai", &[(1_371_250, 1_692_808), (1_031_000, 1_272_770)]),
    ("openai/timings_alone.llamacpp", &[(29_827, 36_822)]),
    ("openai/tool_call_stream.openai", &[(23_136, 28_561), (16_173, 19_965)]),
    ("openai/transcription_by_time.openai", &[(6_000_000, 7_407_000)]),
    ("openai/transcription_stream.openai", &[(6_047_500, 7_465_639), (6_150_000, 7_592_175)]),
    ("openai/usage_and_timings.llamacpp", &[(29_827, 36_822)]),
];

/// One recorded answer, cut and ended in one way.
struct Run {
    /// `protocol/case.provider`.
    fixture: String,
    number: usize,
    operation: String,
    shape: String,
    body: Vec<u8>,
    complete: bool,
    status: u16,
}

fn runs() -> Vec<Run> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters/tests/fixtures");
    let mut runs = Vec::new();
    for protocol in ["anthropic", "gemini", "ollama", "openai"] {
        let entries = std::fs::read_dir(root.join(protocol)).expect("fixtures");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
        files.retain(|path| !path.to_string_lossy().ends_with(".expected.json"));
        files.sort();
        for file in files {
            let expected = std::fs::read(file.with_extension("expected.json")).expect("what is expected");
            let expected: Value = serde_json::from_slice(&expected).expect("JSON");
            let name = file.file_stem().expect("a name").to_str().expect("text");
            let operation = expected["operation"].as_str().expect("an operation");
            // Lists of models are answered by Weir itself.
            if operation == "models" {
                continue;
            }
            for (number, run) in expected["runs"].as_array().expect("runs").iter().enumerate() {
                let mut body = std::fs::read(&file).expect("a body");
                if let Some(mark) = run["cut_after"].as_str() {
                    let text = std::str::from_utf8(&body).expect("text");
                    body.truncate(text.find(mark).expect("the mark") + mark.len());
                }
                runs.push(Run {
                    fixture: format!("{protocol}/{name}"),
                    number,
                    operation: operation.to_owned(),
                    shape: expected["shape"].as_str().expect("a shape").to_owned(),
                    body,
                    complete: run["complete"].as_bool().expect("how it ended"),
                    status: u16::try_from(run["status"].as_u64().expect("a status")).expect("a status"),
                });
            }
        }
    }
    runs
}

impl Run {
    /// The model that is asked for: it tells the run and whose request it is.
    fn model(&self, whose: &str) -> String {
        let (_, case) = self.fixture.split_once('/').expect("a protocol");
        format!("{case}-{}-{whose}", self.number)
    }

    fn script(&self) -> Script {
        let content_type = match self.shape.as_str() {
            "sse" => "text/event-stream",
            "ndjson" => "application/x-ndjson",
            _ => "application/json",
        };
        // Each request has a connection of its own, so that none is sent twice.
        let headers = [("content-type", content_type), ("connection", "close")];
        if self.complete {
            return answer(self.status, &headers, &self.body).close();
        }
        let script = chunked(self.status, &headers);
        if self.body.is_empty() { script.close() } else { script.chunk(&self.body).close() }
    }

    fn path(&self, model: &str) -> String {
        let gemini = |verb| format!("/v1beta/models/{model}:{verb}");
        match self.operation.as_str() {
            "openai.chat" => "/v1/chat/completions".to_owned(),
            "openai.completions" => "/v1/completions".to_owned(),
            "openai.embeddings" => "/v1/embeddings".to_owned(),
            "openai.responses" => "/v1/responses".to_owned(),
            "openai.other" if self.fixture.contains("image") => "/v1/images/generations".to_owned(),
            "openai.other" => "/v1/audio/transcriptions".to_owned(),
            "ollama.chat" => "/api/chat".to_owned(),
            "anthropic.messages" => "/v1/messages".to_owned(),
            "anthropic.count_tokens" => "/v1/messages/count_tokens".to_owned(),
            "gemini.generate" => gemini("generateContent"),
            "gemini.stream" => gemini("streamGenerateContent"),
            "gemini.embed" => gemini("embedContent"),
            "gemini.count_tokens" => gemini("countTokens"),
            other => panic!("no path for {other}"),
        }
    }

    /// A body of 400 bytes.
    fn request(&self, model: &str) -> String {
        let mut body = json!({ "pad": "" });
        if !self.operation.starts_with("gemini.") {
            body["model"] = json!(model);
        }
        if self.fixture.contains("image") {
            body["n"] = json!(2);
        }
        body["pad"] = json!("x".repeat(400 - body.to_string().len()));
        body.to_string()
    }
}

/// A gateway with a channel of each protocol, all of them at `upstream`, and the price file.
fn priced(upstream: &Upstream, prices: &str) -> GatewayBuilder {
    let address = upstream.address();
    gateway()
        .channel(openai(address).models(&["*"]))
        .channel(anthropic(address).models(&["*"]))
        .channel(gemini(address).models(&["*"]))
        .key("alice")
        .key("bob")
        .with("users", json!([{ "name": "user-of-alice" }, { "name": "user-of-bob", "price_rate": RATE }]))
        .file("prices.yaml", prices)
        .with("prices", "prices.yaml")
}

#[tokio::test]
async fn every_fixture_costs_what_it_does_by_hand() {
    let runs = runs();
    let upstream = upstream(runs.iter().flat_map(|run| [run.script(), run.script()])).await;
    let ollama = json!({ "path": "/api/chat", "operation": "ollama.chat", "upstream_path": "/api/chat" });
    let mut gateway = priced(&upstream, PRICES).route(ollama).start().await;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for run in &runs {
        let (_, costs) = COSTS.iter().find(|(name, _)| *name == run.fixture).expect("every fixture is in the table");
        let (alice, bob) = costs[run.number];
        for (whose, cost) in [("alice", alice), ("bob", bob)] {
            let model = run.model(whose);
            let body = run.request(&model);
            assert_eq!(body.len(), 400);
            let request = gateway.post(&run.path(&model)).key(whose).header("content-type", "application/json");
            assert_eq!(request.body(body).send().await.status, run.status, "{model}");
            assert_eq!(expected.insert(model, cost), None);
        }
    }
    let all: usize = COSTS.iter().map(|(_, costs)| costs.len()).sum();
    assert_eq!(runs.len(), all, "the table has no other runs");

    let rows = eventually("every request", async || {
        let rows = gateway.usage("model").await;
        (rows.len() == expected.len()).then_some(rows)
    })
    .await;
    let billed: BTreeMap<String, u64> = rows
        .iter()
        .map(|row| (row["model"].as_str().expect("a model").to_owned(), row["cost_nano_usd"].as_u64().expect("a cost")))
        .collect();
    assert_eq!(billed, expected);
    for (key, row) in gateway.usage("key").await.iter().map(|row| (row["key"].as_str().expect("a key"), row)) {
        let sum: u64 = expected.iter().filter(|(model, _)| model.ends_with(key)).map(|(_, cost)| cost).sum();
        assert_eq!(row["cost_nano_usd"], sum, "{key}");
        assert_eq!(row["cost_micro_usd"], (sum + 500) / 1000, "{key}");
        assert_eq!(row["unpriced"], 0);
    }

    assert!(gateway.stop().await.success());
    let version = parse_prices(PRICES, Path::new("prices.yaml"), &|_| None).expect("prices").into_table().version();
    let records = journal(&gateway);
    assert_eq!(records.len(), expected.len());
    for record in records {
        assert_eq!(record.cost.0, expected[&*record.model], "{}", record.model);
        // What costs nothing because nothing was delivered has no price.
        let is_priced = record.cost.0 > 0 || record.price_version != 0;
        assert_eq!((record.price_version, record.unpriced), (if is_priced { version } else { 0 }, false));
        assert_eq!(record.attempts, 1);
    }
}

/// Every record of a gateway's journal.
fn journal(gateway: &Gateway) -> Vec<Settlement> {
    let mut records = Vec::new();
    let mut left = vec![gateway.data_dir().join("journal")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else {
            let bytes = std::fs::read(path).expect("a segment");
            decode_segment(&bytes, |record| records.push(record.expect("a good record")));
        }
    }
    records
}

//! Answers of the counters that are larger than the gateway gives at once.

use serde_json::{Value, json};
use weir_filters::calendar::rfc3339;

use crate::support::{Gateway, gateway};

const HOUR_MS: u64 = 3_600_000;
/// So many models in each of so many hours are more than 100,000 rows. Hours are kept for 35 days.
const MODELS: u64 = 126;
const HOURS: u64 = 800;

/// A file in which every model was asked once an hour.
fn events(now_ms: u64) -> String {
    let event = |hour: u64, model: u64| {
        let time = rfc3339((now_ms / HOUR_MS - hour) * HOUR_MS);
        let ai =
            json!({ "ai_model": format!("model-{model:03}"), "ai_model_input_token": 3, "ai_model_output_token": 4 });
        json!({ "ai": ai, "request_id": format!("{hour}-{model}"), "time_iso8601": time }).to_string()
    };
    let all = (1..=HOURS).flat_map(|hour| (0..MODELS).map(move |model| event(hour, model)));
    all.fold(String::new(), |text, line| text + &line + "\n")
}

fn rows(gateway: &Gateway, arguments: &[&str]) -> Vec<Value> {
    let output = gateway.command(&[&["usage", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    said["rows"].as_array().expect("rows").clone()
}

#[tokio::test]
async fn too_many_rows_are_refused_with_the_way_out_and_the_command_asks_in_parts() {
    let gateway = gateway().start().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    let events = events(u64::try_from(now.as_millis()).expect("a time"));
    let imported = gateway.admin("POST", "/admin/api/events/import").body(events).send().await.json();
    assert_eq!(imported["imported"], MODELS * HOURS, "{imported}");

    let refused = gateway.admin("GET", "/admin/api/usage?by=model&step=hour").send().await;
    let message =
        "step: there are more than 100000 rows; give a later `from`, a coarser `step`, or `top` for the dearest";
    let error = json!({ "code": "bad_request", "message": message, "parameter": "step" });
    assert_eq!((refused.status, refused.json()), (400, json!({ "error": error })));
    let top = gateway.admin("GET", "/admin/api/usage?by=model&step=hour&top=2").send().await.json();
    let count = |of: &str| top[of].as_array().map(Vec::len);
    assert_eq!((count("rows"), count("rest"), &top["values"]), (Some(1600), Some(800), &json!(MODELS)));

    let rows = rows(&gateway, &["--by", "model", "--step", "hour"]);
    assert_eq!(rows.len() as u64, MODELS * HOURS);
    let at = |row: &Value| (row["time"].as_str().map(str::to_owned), row["model"].as_str().map(str::to_owned));
    assert!(rows.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])), "each once, by time and then by model");
    assert_eq!(rows.iter().filter_map(|row| row["requests"].as_u64()).sum::<u64>(), MODELS * HOURS);
}

//! The recent records over the admin API: who asked what, and what becomes of them when the gateway ends.

use serde_json::{Value, json};

use crate::support::{Gateway, answer, eventually, gateway, openai, upstream};

const CHAT: &str = "/v1/chat/completions";

async fn get(gateway: &Gateway, path: &str) -> (u16, Value) {
    let answer = gateway.admin("GET", &format!("/admin/api/requests{path}")).send().await;
    (answer.status, answer.json())
}

/// The ids of a page, once there are so many.
async fn ids(gateway: &Gateway, query: &str, count: usize) -> Vec<String> {
    let what = format!("{count} records of {query:?}");
    let found = eventually(&what, async || {
        let (status, page) = get(gateway, query).await;
        assert_eq!(status, 200, "{page}");
        let rows = page["rows"].as_array().expect("rows");
        (rows.len() >= count).then(|| rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect())
    });
    let found: Vec<String> = found.await;
    assert_eq!(found.len(), count, "{query}");
    found
}

/// Records that a kill does not take.
fn written(gateway: &Gateway) -> usize {
    let files = std::fs::read_dir(gateway.data_dir().join("history")).expect("a directory");
    let files =
        files.map(|file| file.expect("a file").path()).filter(|path| path.extension() == Some("records".as_ref()));
    files.map(|path| std::fs::read_to_string(path).expect("text").lines().count()).sum()
}

async fn ask(gateway: &Gateway, key: &str, model: &str) -> String {
    let body = json!({ "model": model, "messages": [] });
    let answer = gateway.post(CHAT).key(key).json(&body).send().await;
    answer.header("x-weir-request-id").to_owned()
}

#[tokio::test]
async fn requests_are_found_by_what_they_were_and_survive_a_kill_and_a_lost_index() {
    let body = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7}}"#;
    let upstream = upstream([answer(200, &[("content-type", "application/json")], body)]).await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").key("bob").start().await;
    let mut asked = Vec::new();
    for (key, model) in [("alice", "gpt-4o"), ("bob", "gpt-4o"), ("alice", "gpt-5"), ("nobody", "gpt-4o")] {
        asked.push(ask(&gateway, key, model).await);
        // Threads give their records one by one: each is to be the newest.
        ids(&gateway, "", asked.len()).await;
    }
    let [first, second, third, refused] = asked.try_into().expect("four");
    for round in ["running", "killed", "without its index"] {
        let all = [&refused, &third, &second, &first].map(String::clone);
        assert_eq!(ids(&gateway, "", 4).await, all, "{round}");
        for (query, expected) in [
            ("?key=alice", &[&third, &first][..]),
            ("?user=user-of-bob", &[&second]),
            ("?key=alice&model=gpt-4o", &[&first]),
            ("?channel=openai&status=2xx", &[&third, &second, &first]),
            ("?status=401", &[&refused]),
        ] {
            assert_eq!(ids(&gateway, query, expected.len()).await.iter().collect::<Vec<_>>(), expected, "{query}");
        }
        let (status, record) = get(&gateway, &format!("/{second}")).await;
        assert_eq!((status, &record["key_name"], &record["output_tokens"]), (200, &json!("bob"), &json!(7)));
        let page = get(&gateway, "?limit=3").await.1;
        let next = page["next"].as_str().expect("there is more");
        let page = get(&gateway, &format!("?limit=3&cursor={next}")).await.1;
        assert_eq!((&page["rows"][0]["id"], &page["next"]), (&json!(first), &Value::Null));
        eventually("four records on the disk", async || (written(&gateway) == 4).then_some(())).await;
        gateway.kill();
        if round == "killed" {
            std::fs::remove_dir_all(gateway.data_dir().join("history/index")).expect("an index");
        }
        gateway.start().await;
    }
}

#[tokio::test]
async fn without_a_history_the_setting_is_named() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway =
        gateway().channel(openai(upstream.address())).key("alice").with("audit.history.enabled", false).start().await;
    ask(&gateway, "alice", "gpt-4o").await;
    for path in ["", &format!("/{:032x}", 1)] {
        let (status, error) = get(&gateway, path).await;
        assert_eq!((status, &error["error"]["code"]), (409, &json!("history_disabled")));
    }
    assert!(!gateway.data_dir().join("history").exists());
}

//! Lists of many objects: in pages, and by what is searched for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_filters::key::KeyDigest;

use crate::support::{Gateway, gateway};

/// As many as the console must stay fast with.
const MANY: usize = 10_000;

/// What a page may take in a build that is not optimised, while other tests run.
const QUICK: Duration = Duration::from_millis(300);

fn declared(name: &str) -> Value {
    json!({ "name": name, "sha256": KeyDigest::of(&crate::support::secret_of(name)).to_string() })
}

fn names(page: &Value) -> Vec<&str> {
    page["rows"].as_array().expect("rows").iter().filter_map(|row| row["name"].as_str()).collect()
}

/// The names on all pages of this list, and how many pages there are.
async fn all(gateway: &Gateway, list: &str) -> (Vec<String>, usize) {
    let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = gateway.api(&format!("{list}{cursor}")).get().await;
        seen.extend(names(&page).into_iter().map(str::to_owned));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (seen, pages),
        }
    }
}

#[tokio::test]
async fn pages_go_through_what_is_declared_and_what_was_made() {
    let gateway = gateway().with("keys", json!([declared("d1"), declared("d2")])).start().await;
    for name in ["m1", "m2", "m3"] {
        gateway.api("keys").post(&json!({ "name": name })).await.expect(201);
    }
    for (limit, pages) in [(1, 5), (2, 3), (3, 2), (5, 1), (1000, 1)] {
        let (seen, count) = all(&gateway, &format!("keys?limit={limit}")).await;
        assert_eq!(
            (seen, count),
            (["d1", "d2", "m1", "m2", "m3"].map(str::to_owned).to_vec(), pages),
            "{limit} a page"
        );
    }
    let whole = gateway.api("keys").get().await;
    assert_eq!((names(&whole).len(), &whole["next"], &whole["total"]), (5, &Value::Null, &json!(5)));

    let first = gateway.api("keys?limit=3").get().await;
    let id = first["rows"][2]["id"].as_str().expect("an id");
    gateway.api(&format!("keys/{id}")).delete().await.expect(204);
    gateway.api("keys").post(&json!({ "name": "m4" })).await.expect(201);
    let next = first["next"].as_str().expect("more");
    let second = gateway.api(&format!("keys?limit=3&cursor={next}")).get().await;
    assert_eq!((names(&second), &second["total"]), (vec!["m2", "m3", "m4"], &json!(5)), "none is left out");
}

#[tokio::test]
async fn a_search_finds_parts_of_names_ids_and_users() {
    let gateway = gateway().with("users", json!([{ "name": "Älice" }, { "name": "bob" }])).start().await;
    for (name, user) in [("laptop", "Älice"), ("Phone", "bob"), ("desk", "bob")] {
        gateway.api("keys").post(&json!({ "name": name, "user": user })).await.expect(201);
    }
    let id = gateway.api("keys?q=desk").get().await["rows"][0]["id"].as_str().expect("an id").to_owned();
    for (list, q, found) in [
        ("keys", "P", &["laptop", "Phone"][..]),
        ("keys", "%C3%A4L", &["laptop"]),
        ("keys", "BOB", &["Phone", "desk"]),
        ("keys", &id[2..], &["desk"]),
        ("keys", "nothing", &[]),
        ("users", "o", &["bob"]),
        ("users", "I", &["Älice"]),
        ("channels", "x", &[]),
    ] {
        let page = gateway.api(&format!("{list}?q={q}")).get().await;
        assert_eq!((names(&page), &page["total"]), (found.to_vec(), &json!(found.len())), "{list} {q}");
        let (seen, _) = all(&gateway, &format!("{list}?q={q}&limit=1")).await;
        assert_eq!(seen, found, "{list} {q}");
    }
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=0-f-zz", "cursor"),
        ("q=", "q"),
        ("q=a&q=b", "q"),
        ("name=a", "name"),
    ] {
        let refused = gateway.api(&format!("keys?{query}")).send("GET", None).await.expect(400);
        assert_eq!(refused["error"]["parameter"], parameter, "{query}");
    }
    let long = "x".repeat(257);
    gateway.api(&format!("users?q={long}")).send("GET", None).await.expect(400);
}

#[tokio::test]
async fn a_page_of_ten_thousand_is_quick() {
    let key = |i: usize| {
        let name = format!("key-{i:05}");
        json!({ "id": format!("{i:016x}"), "sha256": KeyDigest::of(&name).to_string(), "name": name,
            "limits": { "rpm": 60, "budget_usd": { "day": "5" } } })
    };
    let mut gateway = gateway().start().await;
    gateway.stop().await;
    let objects: Vec<String> = (0..MANY).map(|i| key(i).to_string()).collect();
    let folder = gateway.data_dir().join("catalog");
    std::fs::create_dir_all(&folder).expect("a folder");
    let text = format!("{{\"version\":1,\"objects\":[\n{}\n]}}\n", objects.join(",\n"));
    std::fs::write(folder.join("keys.json"), text).expect("it is written");
    gateway.start().await;

    let first = gateway.api("keys?limit=50").get().await;
    assert_eq!((names(&first).len(), &first["total"]), (50, &json!(MANY)));
    let next = first["next"].as_str().expect("more").to_owned();
    let deep = {
        let page = gateway.api("keys?limit=1000").get().await;
        page["next"].as_str().expect("more").to_owned()
    };
    for (what, query, found) in [
        ("the first page", "limit=50".to_owned(), 50),
        ("the next one", format!("limit=50&cursor={next}"), 50),
        ("one far behind", format!("limit=50&cursor={deep}"), 50),
        ("a search", "limit=50&q=key-0999".to_owned(), 10),
        ("a search that finds nothing", "limit=50&q=nothing".to_owned(), 0),
    ] {
        // The best of three: other tests use this machine too.
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            let page = gateway.api(&format!("keys?{query}")).get().await;
            best = best.min(begun.elapsed());
            assert_eq!(names(&page).len(), found, "{what}");
        }
        assert!(best < QUICK, "{what} took {best:?}");
    }
    let begun = Instant::now();
    let one = gateway.api(&format!("keys/{:016x}", MANY - 1)).get().await;
    assert_eq!(one["name"], format!("key-{:05}", MANY - 1));
    assert!(begun.elapsed() < QUICK, "one took {:?}", begun.elapsed());
}

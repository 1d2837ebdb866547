//! Drafts against a file's configuration: what may be changed, and what holds afterwards.

mod people;

use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;
use crate::config;

fn file(yaml: &str) -> Config {
    let text = format!(
        "channels:\n  - {{ name: declared, protocol: openai, base_url: http://h, models: [a], \
         keys: [{{ name: m, value: s }}] }}\n{yaml}"
    );
    config::parse(&text, Path::new("weir.yaml"), &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn fields(value: Value) -> Written {
    value.as_object().expect("an object").clone()
}

fn new_key(number: u64) -> NewKey {
    let mut sha256 = [0; 32];
    sha256[..8].copy_from_slice(&number.to_be_bytes());
    NewKey { id: format!("{number:016x}"), sha256 }
}

fn catalog(data_dir: &Path) -> Catalog {
    Catalog::open(data_dir).unwrap_or_else(|e| panic!("{e}"))
}

/// Makes a change and keeps it.
fn change<R>(
    catalog: &mut Catalog,
    file: &Config,
    make: impl FnOnce(&mut Draft<'_>) -> Result<R, Refused>,
) -> Result<(R, Config), Refused> {
    let mut draft = catalog.draft(file);
    let made = make(&mut draft)?;
    let finished = draft.finish()?;
    if let Some(part) = finished.touched {
        catalog.keep(finished.shelves, part).map_err(|(refused, _)| refused)?;
    }
    Ok((made, finished.config))
}

#[test]
fn what_is_kept_is_read_again() {
    let home = tempfile::tempdir().unwrap();
    let file = file("users: [{ name: alice }]\n");
    let mut first = catalog(home.path());
    let channel = json!({
        "name": "c", "protocol": "anthropic", "base_url": "https://h", "models": ["*"], "timeouts": { "idle": "1s" },
        "keys": [{ "name": "m", "value": "pa$$\"word" }],
    });
    change(&mut first, &file, |draft| draft.make_channel(&fields(channel))).unwrap();
    change(&mut first, &file, |draft| {
        draft.make_user(&fields(json!({ "name": "bob", "max_keys": 1 })), Password::Kept)
    })
    .unwrap();
    let key = json!({ "name": "k", "user": "bob", "channels": ["c"], "expires": "2030-01-01T00:00:00Z" });
    change(&mut first, &file, |draft| draft.make_key(&fields(key), &new_key(1))).unwrap();
    let until = UNIX_EPOCH + Duration::from_millis(1_900_000_000_123);
    let rotated = |draft: &mut Draft<'_>| draft.rotate_key(&new_key(1).id, new_key(2).sha256, Some(until));
    let (_, before) = change(&mut first, &file, rotated).unwrap();

    let after = catalog(home.path()).merge(&file).unwrap();
    assert_eq!((&after.keys, &after.users, &after.channels), (&before.keys, &before.users, &before.channels));
    let key = &after.keys[0];
    let identity = key.identity.as_ref().unwrap();
    assert_eq!((key.id(), key.sha256), (new_key(1).id, new_key(2).sha256));
    assert_eq!(identity.previous, Some(config::Previous { sha256: new_key(1).sha256, until }));
    assert_eq!(after.channels[1].keys[0].value.expose(), "pa$$\"word");
    assert_eq!(after.users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
}

#[test]
fn a_refused_change_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let file = file("");
    let mut catalog = catalog(home.path());
    let unknown = json!({ "name": "k", "user": "nobody" });
    let refused = change(&mut catalog, &file, |draft| draft.make_key(&fields(unknown), &new_key(1)));
    assert_eq!(refused.err(), Some(Refused::invalid("user", "unknown user `nobody`")));
    assert_eq!((catalog.shelves().keys.len(), home.path().join(FOLDER).exists()), (0, false));
    let folder = home.path().join(FOLDER);
    std::fs::write(&folder, "in the way").unwrap();
    let refused = change(&mut catalog, &file, |draft| draft.make_key(&fields(json!({ "name": "k" })), &new_key(1)));
    assert!(matches!(refused.err(), Some(Refused::NotKept(_))));
    assert_eq!(catalog.shelves().keys.len(), 0, "what the disk refused is not there");
}

#[test]
fn what_the_file_declares_hides_what_was_made() {
    let home = tempfile::tempdir().unwrap();
    let empty = file("");
    let mut catalog = catalog(home.path());
    for (number, name) in [(1, "same-name"), (2, "same-digest"), (3, "other")] {
        let made = |draft: &mut Draft<'_>| draft.make_key(&fields(json!({ "name": name })), &new_key(number));
        change(&mut catalog, &empty, made).unwrap();
    }
    change(&mut catalog, &empty, |draft| {
        draft.make_user(&fields(json!({ "name": "u", "max_keys": 99 })), Password::Kept)
    })
    .unwrap();
    let digest = weir_filters::key::KeyDigest(new_key(2).sha256);
    let declares = file(&format!(
        "users: [{{ name: u }}]\nkeys:\n  - {{ name: same-name, sha256: {} }}\n  - {{ name: x, sha256: {digest} }}\n",
        "ab".repeat(32)
    ));
    let merged = catalog.merge(&declares).unwrap();
    let names: Vec<(&str, bool)> = merged.keys.iter().map(|key| (key.name.as_str(), key.identity.is_some())).collect();
    assert_eq!(names, [("same-name", false), ("x", false), ("other", true)]);
    assert_eq!(merged.users.iter().map(|user| user.max_keys).collect::<Vec<_>>(), [10]);
    let mut shadowed = catalog.shadowed(&declares);
    shadowed.sort_by(|a, b| a.1.cmp(&b.1));
    let expected = [(Kind::Key, "same-digest"), (Kind::Key, "same-name"), (Kind::User, "u")];
    assert_eq!(shadowed, expected.map(|(kind, name)| (kind, name.to_owned())));
    let hidden = change(&mut catalog, &declares, |draft| {
        draft.change_user("u", &fields(json!({ "max_keys": 1 })), Password::Kept)
    });
    assert!(matches!(hidden.err(), Some(Refused::Conflict { code: "declared", .. })));
    change(&mut catalog, &declares, |draft| draft.remove_user("u")).unwrap();
    assert_eq!(catalog.shadowed(&declares).len(), 2, "it can be tidied away");
}

#[test]
fn what_no_longer_goes_with_the_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    let before = file("users: [{ name: alice }]\n");
    let mut catalog = catalog(home.path());
    let key = json!({ "name": "k", "user": "alice", "channels": ["declared", "d*"] });
    change(&mut catalog, &before, |draft| draft.make_key(&fields(key), &new_key(1))).unwrap();
    let after = config::parse("channels: []\nusers: [{ name: alica }]\n", Path::new("weir.yaml"), &|_| None).unwrap();
    let Err(CatalogError::Misfit { misfits, .. }) = catalog.merge(&after) else { panic!("it goes with the file") };
    assert_eq!(
        misfits,
        [
            "the key `k`, made over the admin API: unknown user `alice`; did you mean \"alica\"?",
            "the key `k`, made over the admin API: unknown channel `declared`",
        ]
    );
}

#[test]
fn one_field_of_many_users_changes_for_all_or_for_none() {
    let home = tempfile::tempdir().unwrap();
    let file = file("users: [{ name: declared }]\n");
    let mut catalog = catalog(home.path());
    for name in ["a", "b", "c"] {
        change(&mut catalog, &file, |draft| draft.make_user(&fields(json!({ "name": name })), Password::Kept)).unwrap();
    }
    let set = |catalog: &mut Catalog, named: Option<&[String]>, value: Value| {
        let changed = change(catalog, &file, |draft| draft.change_users(named, "max_keys", &value));
        changed.map(|(_, config)| config.users.iter().map(|user| user.max_keys).collect::<Vec<_>>())
    };
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(set(&mut catalog, Some(&names(&["a", "c"])), json!(5)), Ok(vec![10, 5, 10, 5]));
    assert_eq!(set(&mut catalog, None, json!(7)), Ok(vec![10, 7, 7, 7]), "the file's stays");
    assert!(set(&mut catalog, None, json!("many")).is_err());
    assert!(set(&mut catalog, Some(&names(&["a", "declared"])), json!(1)).is_err());
    assert!(set(&mut catalog, Some(&names(&["a", "d"])), json!(1)).is_err());
    assert_eq!(set(&mut catalog, Some(&names(&["b"])), json!(7)), Ok(vec![10, 7, 7, 7]), "none was changed");
}

#[test]
fn a_price_table_takes_the_place_of_the_files_until_it_is_taken_back() {
    let home = tempfile::tempdir().unwrap();
    let file = file("");
    let mut first = catalog(home.path());
    let entries = [json!({ "model": "gpt-*", "input": "2.5", "output": "10" })].map(fields);
    let ((), config) = change(&mut first, &file, |draft| draft.set_prices(Some(&entries))).unwrap();
    let table = config.prices.unwrap();
    assert_eq!((table.len(), table.price("gpt-x").is_some()), (1, true));
    let again = catalog(home.path()).merge(&file).unwrap().prices.unwrap();
    assert_eq!((again.version(), &again), (table.version(), &table));
    let refused = change(&mut first, &file, |draft| draft.set_prices(Some(&[fields(json!({ "model": "x" }))]))).err();
    assert!(matches!(refused, Some(Refused::Invalid(wrong)) if wrong.len() == 2));
    assert!(change(&mut first, &file, |draft| draft.set_prices(Some(&[]))).is_err());
    change(&mut first, &file, |draft| draft.set_prices(None)).unwrap();
    assert!(catalog(home.path()).merge(&file).unwrap().prices.is_none());
    assert_eq!(change(&mut first, &file, |draft| draft.set_prices(None)).err(), Some(Refused::NoPrices));
}

#[test]
fn a_merge_patch_is_that_of_the_rfc() {
    // RFC 7396, section 3 and appendix A, as far as both sides are objects.
    for (original, patch, result) in [
        (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
        (json!({ "a": "b" }), json!({ "a": null }), json!({})),
        (json!({ "a": "b", "b": "c" }), json!({ "a": null }), json!({ "b": "c" })),
        (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "c" }), json!({ "a": ["b"] }), json!({ "a": ["b"] })),
        (json!({ "a": { "b": "c" } }), json!({ "a": { "b": "d", "c": null } }), json!({ "a": { "b": "d" } })),
        (json!({ "a": [{ "b": "c" }] }), json!({ "a": [1] }), json!({ "a": [1] })),
        (json!({ "e": null }), json!({ "a": 1 }), json!({ "e": null, "a": 1 })),
        (json!({}), json!({ "a": { "bb": { "ccc": null } } }), json!({ "a": { "bb": {} } })),
    ] {
        assert_eq!(Value::from(draft::patched(fields(original.clone()), &fields(patch.clone()))), result, "{patch}");
    }
}

#[test]
fn a_change_among_ten_thousand_keys_is_quick() {
    let home = tempfile::tempdir().unwrap();
    let file = file("users: [{ name: alice, max_keys: 20000 }]\n");
    let mut catalog = catalog(home.path());
    let mut draft = catalog.draft(&file);
    for number in 0..10_000 {
        let key = json!({ "name": format!("key-{number}"), "user": "alice", "models": ["gpt-*", "o3"] });
        draft.shelves.keys.push(Arc::new(Stored::new(&kept(key, number)).unwrap()));
    }
    let shelves = draft.finish().unwrap().shelves;
    catalog.keep(shelves, Part::Objects(Kind::Key)).unwrap();
    let mut times: Vec<Duration> = (0..5)
        .map(|i| {
            let start = Instant::now();
            let made = |draft: &mut Draft<'_>| {
                draft.make_key(
                    &fields(json!({ "name": format!("one-more-{i}"), "user": "alice" })),
                    &new_key(20_000 + i),
                )
            };
            change(&mut catalog, &file, made).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    // Far more than it takes even without optimisations; what it must never do is read all keys again.
    assert!(times[2] < Duration::from_secs(1), "{times:?}");
    assert_eq!(Catalog::open(home.path()).unwrap().shelves().keys.len(), 10_005);
}

fn kept(key: Value, number: u64) -> Written {
    let mut written = fields(key);
    written.insert("id".into(), new_key(number).id.into());
    written.insert("sha256".into(), weir_filters::key::KeyDigest(new_key(number).sha256).to_string().into());
    written
}

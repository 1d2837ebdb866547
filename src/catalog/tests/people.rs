//! Passwords, roles, and what users do with keys of their own.

use std::time::SystemTime;

use weir_filters::secret::Secret;

use crate::config::Role;

use super::*;

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA";

fn hashed() -> Password {
    Password::Hashed(Secret::new(HASH))
}

/// A catalogue with the keys that an administrator has made, ids from 1.
fn with_keys(home: &Path, file: &Config, keys: &[Value]) -> Catalog {
    let mut catalog = catalog(home);
    for (number, key) in (1..).zip(keys) {
        change(&mut catalog, file, |draft| draft.make_key(&fields(key.clone()), &new_key(number))).unwrap();
    }
    catalog
}

fn refused<R>(result: Result<R, Refused>) -> String {
    match result.err().expect("it is refused") {
        Refused::Invalid(wrong) => wrong[0].message.clone(),
        Refused::Conflict { code, .. } => code.to_owned(),
        other => format!("{other:?}"),
    }
}

fn make(catalog: &mut Catalog, file: &Config, given: Value, number: u64) -> Result<Key, Refused> {
    let now = SystemTime::now();
    let made = |draft: &mut Draft<'_>| draft.make_own_key("alice", &fields(given), &new_key(number), now);
    change(catalog, file, made).map(|(stored, _)| stored.meant.clone())
}

fn patch(catalog: &mut Catalog, file: &Config, number: u64, patch: Value) -> Result<Key, Refused> {
    let changed = |draft: &mut Draft<'_>| draft.change_own_key("alice", &new_key(number).id, &fields(patch));
    change(catalog, file, changed).map(|(stored, _)| stored.meant.clone())
}

fn remove(catalog: &mut Catalog, file: &Config, number: u64) -> Result<(), Refused> {
    change(catalog, file, |draft| draft.remove_own_key("alice", &new_key(number).id)).map(drop)
}

#[test]
fn a_password_is_kept_with_its_user_and_may_be_taken_away() {
    let home = tempfile::tempdir().unwrap();
    let file = file("");
    let mut first = catalog(home.path());
    let given = fields(json!({ "name": "bob", "role": "admin" }));
    change(&mut first, &file, |draft| draft.make_user(&given, hashed())).unwrap();
    change(&mut first, &file, |draft| draft.change_user("bob", &fields(json!({ "max_keys": 3 })), Password::Kept))
        .unwrap();
    let user = |home: &Path, file: &Config| catalog(home).merge(file).unwrap().users[0].clone();
    let bob = user(home.path(), &file);
    assert_eq!((bob.password, bob.role, bob.max_keys), (Some(Secret::new(HASH)), Role::Admin, 3));
    let none = fields(json!({ "role": null }));
    change(&mut first, &file, |draft| draft.change_user("bob", &none, Password::None)).unwrap();
    let bob = user(home.path(), &file);
    assert_eq!((bob.password, bob.role), (None, Role::User));
    let own = fields(json!({ "name": "eve", "password_hash": HASH }));
    assert!(refused(change(&mut first, &file, |draft| draft.make_user(&own, Password::Kept))).contains("set by Weir"));
    let own = fields(json!({ "password_hash": HASH }));
    let changed = change(&mut first, &file, |draft| draft.change_user("bob", &own, Password::Kept));
    assert!(refused(changed).contains("set by Weir"));
    std::fs::write(
        home.path().join(FOLDER).join("users.json"),
        r#"{"version":1,"objects":[{"name":"b","password_hash":"sk-canary"}]}"#,
    )
    .unwrap();
    let said = Catalog::open(home.path()).expect_err("a hash that is none").to_string();
    assert!(said.contains("password_hash") && !said.contains("canary"), "{said}");
}

#[test]
fn a_declared_user_may_be_given_a_password_and_a_role_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let file = file("users: [{ name: alice, role: admin }, { name: bob }]\n");
    let mut first = catalog(home.path());
    let set = |catalog: &mut Catalog, given: Value, password: Password| {
        change(catalog, &file, |draft| draft.change_user("alice", &fields(given), password)).map(|((), config)| config)
    };
    let config = set(&mut first, json!({}), hashed()).unwrap();
    assert_eq!((&config.users[0].password, config.users[0].role), (&Some(Secret::new(HASH)), Role::Admin));
    set(&mut first, json!({ "role": "user" }), Password::Kept).unwrap();
    let read = |file: &Config| catalog(home.path()).merge(file).unwrap().users;
    let users = read(&file);
    assert_eq!((users.len(), &users[0].password, users[0].role), (2, &Some(Secret::new(HASH)), Role::User));
    for given in [json!({ "max_keys": 1 }), json!({ "role": "user", "price_rate": "2" }), json!({})] {
        assert_eq!(refused(set(&mut first, given.clone(), Password::Kept)), "declared", "{given}");
    }
    assert!(refused(set(&mut first, json!({ "role": "root" }), Password::Kept)).starts_with("`role` must be one of"));
    set(&mut first, json!({ "role": null }), Password::Kept).unwrap();
    assert_eq!(read(&file)[0].role, Role::Admin, "the file's again");

    let without = self::file("users: [{ name: bob }]\n");
    assert_eq!(read(&without).len(), 1, "who is not declared is not there");
    let of_bob = |draft: &mut Draft<'_>| draft.change_user("bob", &fields(json!({})), hashed());
    change(&mut first, &without, of_bob).unwrap();
    assert_eq!(read(&file)[0].password, None, "and is forgotten at the next change");
}

#[test]
fn a_key_of_ones_own_may_do_what_the_one_before_may() {
    let home = tempfile::tempdir().unwrap();
    let file = file("users: [{ name: alice, max_keys: 4 }, { name: bob }]\n");
    let bound = json!({
        "name": "bound", "user": "alice", "protocols": ["openai"], "models": ["gpt-*"], "channels": ["declared"],
        "expires": "2099-01-01T00:00:00Z",
    });
    let of_bob = json!({ "name": "bobs", "user": "bob" });
    let mut catalog = with_keys(home.path(), &file, &[bound, of_bob]);
    let made = make(&mut catalog, &file, json!({ "name": "second" }), 10).unwrap();
    let first = catalog.shelves().keys[0].meant.clone();
    assert_eq!(
        (&made.user, &made.protocols, &made.models, &made.channels, made.expires),
        (&Some("alice".into()), &first.protocols, &first.models, &first.channels, first.expires)
    );
    for (given, message) in [
        (json!({ "name": "x", "models": ["*"] }), "`models` is set by administrators"),
        (json!({ "name": "x", "limits": {} }), "`limits` is set by administrators"),
        (json!({ "name": "x", "user": "bob" }), "`user` is set by administrators"),
        (json!({ "name": "x", "nmae": 1 }), "unknown field `nmae`; did you mean \"name\"?"),
        (json!({ "name": "x", "id": "1" }), "unknown field `id`"),
        (json!({ "name": "x", "like": new_key(2).id }), "`like` names none of your keys"),
        (json!({ "name": "x", "like": 1 }), "`like` must be the id of a key"),
        (json!({ "name": "x", "expires": "2100-01-01T00:00:00Z" }), "not_granted"),
        (json!({ "name": "bobs" }), "name_taken"),
        (json!({}), "`name` is missing"),
    ] {
        let said = refused(make(&mut catalog, &file, given.clone(), 11));
        assert!(said.starts_with(message), "{given}: {said}");
    }
    let sooner = json!({ "name": "third", "expires": "2050-01-01T00:00:00Z", "like": new_key(1).id });
    make(&mut catalog, &file, sooner, 12).unwrap();
    patch(&mut catalog, &file, 12, json!({ "expires": "2099-01-01T00:00:00Z" })).unwrap();
    for wider in [json!({ "expires": null }), json!({ "expires": "2099-01-01T00:00:01Z" })] {
        assert_eq!(refused(patch(&mut catalog, &file, 12, wider)), "not_granted");
    }
    make(&mut catalog, &file, json!({ "name": "fourth" }), 13).unwrap();
    assert_eq!(refused(make(&mut catalog, &file, json!({ "name": "fifth" }), 14)), "too_many_keys");
    let kept = self::catalog(home.path());
    assert_eq!(kept.shelves().keys.len(), 5, "it is read again as it was");
}

#[test]
fn limits_of_a_key_are_not_had_twice_and_what_bound_it_is_not_forgotten() {
    let home = tempfile::tempdir().unwrap();
    let file = file("users: [{ name: alice }]\n");
    let limited = json!({ "name": "limited", "user": "alice", "limits": { "rpm": 5 } });
    let mut catalog = with_keys(home.path(), &file, &[limited]);
    assert_eq!(refused(make(&mut catalog, &file, json!({ "name": "more" }), 10)), "not_granted");
    assert_eq!(refused(remove(&mut catalog, &file, 1)), "not_granted", "with it the limits would be gone");
    let free = json!({ "name": "free", "user": "alice" });
    change(&mut catalog, &file, |draft| draft.make_key(&fields(free), &new_key(2))).unwrap();
    assert!(make(&mut catalog, &file, json!({ "name": "more" }), 10).unwrap().limits.is_none());
    remove(&mut catalog, &file, 1).unwrap();
    remove(&mut catalog, &file, 2).unwrap();
    assert_eq!(refused(remove(&mut catalog, &file, 10)), "not_granted", "nobody takes the last one from themselves");
}

#[test]
fn who_has_no_key_any_more_makes_none_for_themselves() {
    let home = tempfile::tempdir().unwrap();
    let file = file("users: [{ name: alice }]\n");
    let bound = json!({ "name": "bound", "user": "alice", "models": ["gpt-*"] });
    let mut catalog = with_keys(home.path(), &file, &[bound]);
    change(&mut catalog, &file, |draft| draft.remove_key(&new_key(1).id)).unwrap();
    assert_eq!(refused(make(&mut catalog, &file, json!({ "name": "all" }), 10)), "not_granted");
    let named = json!({ "name": "all", "like": new_key(1).id });
    assert_eq!(refused(make(&mut catalog, &file, named, 10)), "`like` names none of your keys");
    assert!(catalog.shelves().keys.is_empty());
}

#[test]
fn what_an_administrator_has_disabled_or_ended_its_user_does_not_bring_back() {
    let home = tempfile::tempdir().unwrap();
    let file = file("users: [{ name: alice }]\n");
    let mut catalog = with_keys(home.path(), &file, &[json!({ "name": "k", "user": "alice" })]);
    let admin = |catalog: &mut Catalog, given: Value| {
        let changed = |draft: &mut Draft<'_>| draft.change_key(&new_key(1).id, &fields(given));
        change(catalog, &file, changed).unwrap();
    };
    let off = json!({ "enabled": false });
    let on = json!({ "enabled": true });
    patch(&mut catalog, &file, 1, off.clone()).unwrap();
    assert!(patch(&mut catalog, &file, 1, on.clone()).unwrap().enabled, "their own switch");
    admin(&mut catalog, off.clone());
    assert_eq!(refused(patch(&mut catalog, &file, 1, on.clone())), "not_granted");
    assert_eq!(refused(patch(&mut catalog, &file, 1, json!({ "enabled": null }))), "not_granted");
    assert_eq!(refused(remove(&mut catalog, &file, 1)), "not_granted");
    assert_eq!(refused(make(&mut catalog, &file, json!({ "name": "more" }), 10)), "not_granted");
    patch(&mut catalog, &file, 1, json!({ "name": "renamed" })).unwrap();
    assert_eq!(refused(patch(&mut catalog, &file, 1, on.clone())), "not_granted", "still");
    admin(&mut catalog, on.clone());
    patch(&mut catalog, &file, 1, json!({ "expires": "2030-01-01T00:00:00Z" })).unwrap();
    patch(&mut catalog, &file, 1, json!({ "expires": null })).unwrap();
    admin(&mut catalog, json!({ "expires": "2030-01-01T00:00:00Z" }));
    assert_eq!(refused(patch(&mut catalog, &file, 1, json!({ "expires": null }))), "not_granted");
    assert_eq!(refused(patch(&mut catalog, &file, 1, json!({ "limits": null }))), "`limits` is set by administrators");
}

#[test]
fn keys_of_others_are_not_even_there() {
    let home = tempfile::tempdir().unwrap();
    let declared = "users: [{ name: alice }, { name: bob }]\nkeys:\n  - { name: d, user: alice, sha256: ".to_owned();
    let file = file(&format!("{declared}{} }}\n", "ab".repeat(32)));
    let mut catalog =
        with_keys(home.path(), &file, &[json!({ "name": "bobs", "user": "bob" }), json!({ "name": "n" })]);
    for number in [1, 2, 3] {
        assert_eq!(patch(&mut catalog, &file, number, json!({})).err(), Some(Refused::NotFound(Kind::Key)));
        assert_eq!(remove(&mut catalog, &file, number).err(), Some(Refused::NotFound(Kind::Key)));
    }
    let own = file.keys[0].id();
    let changed = change(&mut catalog, &file, |draft| draft.change_own_key("alice", &own, &fields(json!({}))));
    assert_eq!(refused(changed), "declared");
}

//! Signing in and out, with a file of sessions.

use std::os::unix::fs::PermissionsExt;

use weir_filters::limits::Limits;
use weir_filters::price::PriceRate;

use crate::config::Role;

use super::*;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));
const PASSWORD: &str = "correct horse";

fn identity(data_dir: &Path) -> Identity {
    let identity = Identity::open_with(data_dir, Hashing::cheap()).unwrap();
    identity.trust([1; 16]);
    identity
}

fn user(identity: &Identity, name: &str, password: &str) -> User {
    User {
        name: name.into(),
        limits: Limits::default(),
        price_rate: PriceRate::default(),
        max_keys: 1,
        role: Role::User,
        password: Some(identity.hash(Secret::new(password)).unwrap()),
    }
}

async fn sign_in(identity: &Identity, name: &str, password: &str) -> Result<Begun, NotIn> {
    identity.sign_in(name, Secret::new(password), FROM).await
}

/// Hashes where blocking is allowed.
async fn knowing(data_dir: &Path, names: &[&str]) -> (Identity, Vec<User>) {
    let (data_dir, names) = (data_dir.to_owned(), names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    let made = tokio::task::spawn_blocking(move || {
        let identity = identity(&data_dir);
        let users: Vec<User> = names.iter().map(|name| user(&identity, name, PASSWORD)).collect();
        identity.know(&users);
        (identity, users)
    });
    made.await.unwrap()
}

#[tokio::test]
async fn who_has_signed_in_is_known_to_the_next_process_until_they_sign_out() {
    let home = tempfile::tempdir().unwrap();
    let (first, users) = knowing(home.path(), &["alice"]).await;
    let begun = sign_in(&first, "alice", PASSWORD).await.unwrap();
    assert_eq!((begun.session.user.as_deref(), begun.session.role), (Some("alice"), Role::User));
    assert_eq!(begun.token.expose().len(), 64);
    let by_token = first.sign_in_by_token(|| true, FROM).await.unwrap();

    let path = home.path().join(FILE);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    for hidden in [begun.token.expose(), by_token.token.expose(), begun.session.csrf.expose(), "argon2"] {
        assert!(!text.contains(hidden), "{text}");
    }

    let second = identity(home.path());
    second.know(&users);
    let found = second.session(begun.token.expose()).expect("the session");
    assert_eq!(found.csrf, begun.session.csrf);
    assert_eq!(second.session(by_token.token.expose()).expect("the admin's").role, Role::Admin);
    second.sign_out(found.id).await.unwrap();
    assert!(second.session(begun.token.expose()).is_none() && !second.is_open(found.id));
    let third = identity(home.path());
    third.know(&users);
    assert!(third.session(begun.token.expose()).is_none(), "it does not come back");
    assert!(third.session(by_token.token.expose()).is_some());
}

#[tokio::test]
async fn a_wrong_password_is_tried_ten_times_and_the_right_one_as_often_as_wanted() {
    let home = tempfile::tempdir().unwrap();
    let (identity, _) = knowing(home.path(), &["alice", "bob"]).await;
    for _ in 0..20 {
        sign_in(&identity, "alice", PASSWORD).await.unwrap();
    }
    for name in ["bob", "nobody"] {
        for _ in 0..10 {
            assert_eq!(sign_in(&identity, name, "wrong").await.unwrap_err(), NotIn::Wrong);
        }
        let throttled = sign_in(&identity, name, PASSWORD).await.unwrap_err();
        assert!(matches!(throttled, NotIn::Throttled { retry_s: 1..=15 }), "{name}: {throttled:?}");
    }
    for _ in 0..10 {
        assert_eq!(identity.sign_in_by_token(|| false, FROM).await.unwrap_err(), NotIn::Wrong);
    }
    let of_address = identity.sign_in_by_token(|| true, FROM).await.unwrap_err();
    assert!(matches!(of_address, NotIn::Throttled { retry_s: 1..=3 }), "{of_address:?}");
    let elsewhere = "203.0.113.8".parse().unwrap();
    assert!(identity.sign_in("alice", Secret::new(PASSWORD), elsewhere).await.is_ok());
}

#[tokio::test]
async fn a_session_that_goes_on_does_not_outlive_a_password_that_came_after_its_own() {
    let home = tempfile::tempdir().unwrap();
    let (identity, mut users) = knowing(home.path(), &["alice"]).await;
    let one = sign_in(&identity, "alice", PASSWORD).await.unwrap();
    let moving = identity.moving(one.session.id);
    users[0].password = Some(Secret::new("their own"));
    let stamp = identity.stamp_with("alice", &Secret::new("their own")).expect("a stamp");
    identity.know(&users);
    users[0].password = Some(Secret::new("an administrator's"));
    identity.know(&users);
    moving.arrive(stamp).await.unwrap();
    assert!(identity.session(one.token.expose()).is_none());
}

#[tokio::test]
async fn another_password_ends_all_sessions_but_the_one_that_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let (identity, mut users) = knowing(home.path(), &["alice"]).await;
    let one = sign_in(&identity, "alice", PASSWORD).await.unwrap();
    let other = sign_in(&identity, "alice", PASSWORD).await.unwrap();
    assert_eq!(identity.confirm("alice", Secret::new("wrong"), FROM).await, Err(NotIn::Wrong));
    let seen = identity.stamp_of("alice").expect("a stamp");
    assert_eq!(identity.confirm("alice", Secret::new(PASSWORD), FROM).await, Ok(seen));
    let identity = Arc::new(identity);
    let hashes = Arc::clone(&identity);
    let hashed = tokio::task::spawn_blocking(move || hashes.hash(Secret::new("another horse")).unwrap()).await.unwrap();
    let stamp = identity.stamp_with("alice", &hashed).expect("a stamp");
    users[0].password = Some(hashed);
    let moving = identity.moving(one.session.id);
    identity.know(&users);
    assert_eq!(identity.stamp_of("alice"), Some(stamp));
    assert!(identity.session(other.token.expose()).is_none());
    assert!(identity.session(one.token.expose()).is_some(), "at no moment");
    moving.arrive(stamp).await.unwrap();
    assert_eq!(sign_in(&identity, "alice", PASSWORD).await.unwrap_err(), NotIn::Wrong);
    sign_in(&identity, "alice", "another horse").await.unwrap();
    drop(identity.moving(one.session.id));
    assert!(identity.session(one.token.expose()).is_some());
    identity.know(&[]);
    assert!(identity.session(one.token.expose()).is_none(), "there is no such user");
}

#[tokio::test]
async fn while_another_process_takes_over_nothing_begins_or_ends() {
    let home = tempfile::tempdir().unwrap();
    let (identity, _) = knowing(home.path(), &["alice"]).await;
    let begun = sign_in(&identity, "alice", PASSWORD).await.unwrap();
    identity.freeze();
    let before = std::fs::read(home.path().join(FILE)).unwrap();
    assert_eq!(sign_in(&identity, "alice", PASSWORD).await.unwrap_err(), NotIn::Upgrading);
    assert_eq!(identity.sign_out(begun.session.id).await, Err(NotIn::Upgrading));
    assert!(identity.session(begun.token.expose()).is_some(), "who is here is still known");
    assert_eq!(std::fs::read(home.path().join(FILE)).unwrap(), before);
    identity.thaw();
    assert_eq!(identity.sign_out(begun.session.id).await, Ok(()));
}

#[tokio::test]
async fn what_cannot_be_read_or_written_keeps_nobody_out() {
    let home = tempfile::tempdir().unwrap();
    for text in ["", "{", r#"{"version":1,"objects":[{"sha256":"x"}]}"#] {
        std::fs::write(home.path().join(FILE), text).unwrap();
        let (identity, _) = knowing(home.path(), &["alice"]).await;
        assert!(sign_in(&identity, "alice", PASSWORD).await.is_ok(), "{text}");
    }
    let (identity, _) = knowing(home.path(), &["alice"]).await;
    std::fs::remove_file(home.path().join(FILE)).unwrap();
    std::fs::create_dir(home.path().join(FILE)).unwrap();
    let begun = sign_in(&identity, "alice", PASSWORD).await.unwrap();
    assert!(identity.session(begun.token.expose()).is_some(), "it counts until the end of the process");
}

#[test]
fn an_address_is_what_one_customer_has() {
    for (address, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::1", "::"),
    ] {
        assert_eq!(network(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap(), "{address}");
    }
}

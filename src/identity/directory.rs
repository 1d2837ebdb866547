//! Who can sign in, as the configuration in force says.
//!
//! Owns the stamp of a credential: what a session keeps of it, to know when it is another one. Knows nothing of
//! sessions.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use weir_filters::secret::Secret;

use crate::config::{Role, User};

/// What tells the credential by which a session began from any that came after it: the beginning of a SHA-256.
pub(crate) type Stamp = [u8; 16];

/// Users who have a password, and the admin token.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// `None`: not known yet.
    members: Option<Arc<HashMap<Arc<str>, Member>>>,
    /// `None`: not known yet.
    token: Option<Stamp>,
}

/// A user who has one.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) password: Secret,
    /// Of password and role: another one of either ends what began by the one before.
    pub(crate) stamp: Stamp,
}

impl Directory {
    /// Those of `users` who can sign in.
    pub(crate) fn of(users: &[User]) -> Self {
        let member = |user: &User| {
            let (name, role, password) = (Arc::from(user.name.as_str()), user.role, user.password.clone()?);
            let stamp = stamp_of(role, &password);
            Some((Arc::clone(&name), Member { name, role, password, stamp }))
        };
        Self { members: Some(Arc::new(users.iter().filter_map(member).collect())), token: None }
    }

    /// The same, with an admin token of that stamp.
    pub(crate) fn trusting(&self, token: Option<Stamp>) -> Self {
        Self { members: self.members.clone(), token }
    }

    /// The stamp of the admin token, if it is known.
    pub(crate) fn token(&self) -> Option<Stamp> {
        self.token
    }

    /// Whether it is known yet who of these can sign in: users, or else whoever has the admin token.
    pub(crate) fn knows(&self, users: bool) -> bool {
        if users { self.members.is_some() } else { self.token.is_some() }
    }

    /// The user of this name, if that one has a password.
    pub(crate) fn find(&self, name: &str) -> Option<&Member> {
        self.members.as_ref()?.get(name)
    }
}

/// The stamp of who has this role and this password.
pub(super) fn stamp_of(role: Role, password: &Secret) -> Stamp {
    stamp(&[role.name().as_bytes(), password.expose().as_bytes()])
}

/// The stamp of a credential's parts.
pub(crate) fn stamp(parts: &[&[u8]]) -> Stamp {
    let mut hash = Sha256::new_with_prefix(b"weir session of");
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let (first, _) = digest.split_first_chunk::<16>().expect("a digest has 32 bytes");
    *first
}

#[cfg(test)]
mod tests {
    use weir_filters::limits::Limits;
    use weir_filters::price::PriceRate;

    use super::*;

    fn user(name: &str, role: Role, password: Option<&str>) -> User {
        let (limits, price_rate, max_keys) = (Limits::default(), PriceRate::default(), 1);
        User { name: name.into(), limits, price_rate, max_keys, role, password: password.map(Secret::new) }
    }

    #[test]
    fn who_has_no_password_is_not_there_and_a_stamp_is_of_password_and_role() {
        let users = [
            user("none", Role::Admin, None),
            user("a", Role::User, Some("h1")),
            user("b", Role::User, Some("h1")),
            user("c", Role::Admin, Some("h1")),
            user("d", Role::User, Some("h2")),
        ];
        let directory = Directory::of(&users);
        assert!(directory.find("none").is_none() && directory.find("e").is_none());
        let stamp = |name: &str| directory.find(name).expect("a member").stamp;
        assert_eq!(stamp("a"), stamp("b"));
        assert!(stamp("a") != stamp("c") && stamp("a") != stamp("d"));
        assert_ne!(super::stamp(&[b"ab", b"c"]), super::stamp(&[b"a", b"bc"]), "parts are told apart");
        assert!(!format!("{directory:?}").contains("h1"));
    }
}

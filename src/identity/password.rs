//! Passwords: which are taken, how one is kept, and whether one is right.
//!
//! Owns the algorithm and its cost. A password is kept as an argon2id hash in the form of a PHC string, which says by
//! itself what it was made with. Refuses to know whose it is and which thread it costs.

use std::io;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use weir_filters::secret::Secret;

/// What people must give at least, in characters: what NIST asks of passwords that are all there is (SP 800-63B), and
/// two more.
const MIN_CHARS: usize = 10;

/// More is no password, but a file in the wrong place.
const MAX_CHARS: usize = 256;

/// Memory, passes and lanes, as OWASP recommends for argon2id: 19 MiB for some tens of milliseconds.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

/// Bytes of a salt.
const SALT: usize = 16;

/// The salt and the hash of a password that nobody has, in the form that they have in a PHC string.
const DECOY: (&str, &str) = ("d2Vpci1kZWNveS1zYWx0IQ", "EExX5fzTwTN+hNUhYsI5G+QdTY5Gl/M1Pi6L3iml6fM");

/// How passwords are hashed.
#[derive(Clone, Debug)]
pub(crate) struct Hashing {
    argon2: Argon2<'static>,
    decoy: Secret,
}

impl Default for Hashing {
    fn default() -> Self {
        Self::with(COST)
    }
}

impl Hashing {
    fn with((memory, passes, lanes): (u32, u32, u32)) -> Self {
        let params =
            Params::new(memory, passes, lanes, None).expect("within what argon2 allows, by the constants here");
        let (salt, hash) = DECOY;
        let decoy = Secret::new(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}"));
        Self { argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params), decoy }
    }

    /// One that costs nothing.
    #[cfg(test)]
    pub(crate) fn cheap() -> Self {
        Self::with((8, 1, 1))
    }

    /// What is kept of a password. It takes its time and memory.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn hash(&self, password: &Secret) -> io::Result<Secret> {
        let mut random = [0; SALT];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let salt = SaltString::encode_b64(&random).map_err(|error| io::Error::other(error.to_string()))?;
        let hash = self.argon2.hash_password(password.expose().as_bytes(), &salt);
        Ok(Secret::new(hash.map_err(|error| io::Error::other(error.to_string()))?.to_string()))
    }

    /// Whether `password` is the one that `kept` is of. Without one it takes the time that a wrong one takes, so that
    /// nobody learns by it who has a password.
    pub(crate) fn is_right(&self, password: &Secret, kept: Option<&Secret>) -> bool {
        let is_right = |kept: &Secret| {
            let kept = PasswordHash::new(kept.expose());
            kept.is_ok_and(|kept| self.argon2.verify_password(password.expose().as_bytes(), &kept).is_ok())
        };
        if let Some(kept) = kept {
            return is_right(kept);
        }
        std::hint::black_box(is_right(&self.decoy));
        false
    }
}

/// What is wrong with a password that the user of this name is to have, as a clause that follows its field's name.
pub(crate) fn complaint(name: &str, password: &str) -> Option<String> {
    let chars = password.chars().count();
    if chars < MIN_CHARS {
        Some(format!("must have at least {MIN_CHARS} characters"))
    } else if chars > MAX_CHARS {
        Some(format!("must have at most {MAX_CHARS} characters"))
    } else if password.to_lowercase() == name.to_lowercase() {
        Some("must not be the user's name".to_owned())
    } else if password.chars().all(|c| password.starts_with(c)) {
        Some("must not be one character again and again".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn is_hash(kept: &str) -> bool {
        PasswordHash::new(kept).is_ok_and(|hash| hash.algorithm == argon2::ARGON2ID_IDENT && hash.hash.is_some())
    }

    #[test]
    fn a_password_is_right_and_all_others_are_wrong() {
        let hashing = Hashing::cheap();
        let kept = hashing.hash(&secret("correct horse")).unwrap();
        assert!(kept.expose().starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "it says what it was made with");
        assert!(is_hash(kept.expose()) && !kept.expose().contains("correct"));
        assert!(hashing.is_right(&secret("correct horse"), Some(&kept)));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!hashing.is_right(&secret(wrong), Some(&kept)), "{wrong:?}");
        }
        assert!(!hashing.is_right(&secret("correct horse"), None));
        assert!(!hashing.is_right(&secret(""), Some(&secret(""))));
        assert_ne!(hashing.hash(&secret("correct horse")).unwrap(), kept, "each has a salt of its own");
    }

    #[test]
    fn a_hash_of_another_cost_is_still_right() {
        let before = Hashing::with((16, 2, 1)).hash(&secret("correct horse")).unwrap();
        assert!(Hashing::cheap().is_right(&secret("correct horse"), Some(&before)));
    }

    #[test]
    fn the_decoy_is_a_hash_of_the_same_cost() {
        let hashing = Hashing::default();
        let decoy = PasswordHash::new(hashing.decoy.expose()).unwrap();
        assert!(is_hash(hashing.decoy.expose()));
        let of = |hash: &PasswordHash<'_>| (Params::try_from(hash).unwrap(), hash.hash.map(|output| output.len()));
        let kept = hashing.hash(&secret("correct horse")).unwrap();
        assert_eq!(of(&decoy), of(&PasswordHash::new(kept.expose()).unwrap()));
    }

    #[test]
    fn what_is_no_password_is_told_without_it() {
        for (name, password, expected) in [
            ("alice", "correct hor", None),
            ("alice", "pässwörter", None),
            ("alice", "密码密码密码密码密了", None),
            ("alice", "", Some("must have at least 10 characters")),
            ("alice", "密码密码密码密码密", Some("must have at least 10 characters")),
            ("Alice Cooper", "alice cooper", Some("must not be the user's name")),
            ("alice", "aaaaaaaaaaaa", Some("must not be one character again and again")),
        ] {
            assert_eq!(complaint(name, password).as_deref(), expected, "{password}");
        }
        assert_eq!(complaint("a", &"ab".repeat(128)), None);
        assert_eq!(complaint("a", &"ab".repeat(129)).as_deref(), Some("must have at most 256 characters"));
    }
}

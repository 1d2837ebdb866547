//! What nobody can guess: keys and ids, drawn from the system's randomness.

use std::io;

use sha2::{Digest, Sha256};
use weir_filters::secret::Secret;

/// Bytes of a key: 192 bits.
const KEY_BYTES: usize = 24;

/// Bytes of an id. It is no secret, only one's own: as many as the ids that are made from digests.
const ID_BYTES: usize = 8;

/// Letters of a password.
const PASSWORD_LETTERS: usize = 20;

/// A client key that nobody has guessed, and its SHA-256.
#[derive(Debug)]
pub struct ClientKey {
    /// What the client presents.
    pub key: Secret,
    /// What the configuration holds.
    pub sha256: [u8; 32],
}

impl ClientKey {
    /// Draws one: `sk-weir-` and 192 random bits.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn draw() -> io::Result<Self> {
        let key = secret("sk-weir-")?;
        let sha256 = Sha256::digest(key.expose()).into();
        Ok(Self { key, sha256 })
    }
}

/// Draws a secret that begins with `prefix`.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn secret(prefix: &str) -> io::Result<Secret> {
    Ok(Secret::new(format!("{prefix}{}", hex::<KEY_BYTES>()?)))
}

/// Draws a password that a person can copy by hand: twenty letters and digits that are not taken for each other, in
/// groups; 100 bits.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn password() -> io::Result<Secret> {
    /// As many as divide 256 without a rest.
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0_u8; PASSWORD_LETTERS];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let letters: Vec<char> = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    let groups: Vec<String> = letters.chunks(PASSWORD_LETTERS / 4).map(|group| group.iter().collect()).collect();
    Ok(Secret::new(groups.join("-")))
}

/// Draws an id of 16 hex digits.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn id() -> io::Result<String> {
    hex::<ID_BYTES>()
}

/// Draws the id of a request: 128 random bits.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn request_id() -> io::Result<u128> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u128::from_le_bytes(random))
}

fn hex<const N: usize>() -> io::Result<String> {
    let mut random = [0_u8; N];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_are_known_by_their_digest() {
        let (one, two) = (ClientKey::draw().expect("random bytes"), ClientKey::draw().expect("random bytes"));
        assert_ne!(one.key, two.key);
        assert_eq!(one.key.expose().len(), "sk-weir-".len() + 48);
        assert_eq!(one.sha256, <[u8; 32]>::from(Sha256::digest(one.key.expose())));
    }

    #[test]
    fn passwords_differ_and_can_be_copied() {
        let (one, two) = (password().expect("random bytes"), password().expect("random bytes"));
        assert_ne!(one, two);
        let groups: Vec<&str> = one.expose().split('-').collect();
        assert!(groups.len() == 4 && groups.iter().all(|group| group.len() == 5), "four groups of five");
        assert!(!one.expose().contains(['0', 'o', '1', 'l', 'O', 'I']));
    }

    #[test]
    fn ids_have_sixteen_digits() {
        let (one, two) = (id().expect("random bytes"), id().expect("random bytes"));
        assert_ne!(one, two);
        assert!(one.len() == 16 && one.bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
    }
}

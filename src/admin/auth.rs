//! Who may use the admin API: one token, known only by its SHA-256.
//!
//! Owns the token's making, its file and its comparison. Knows nothing of routes, sessions or the socket, whose
//! file permissions are an authentication of their own.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use weir_filters::secret::Secret;

use crate::identity::{Stamp, stamp};

/// The file in the data directory that holds the token's digest, as 64 hex digits.
const FILE: &str = "admin-token.sha256";

/// What a token made here begins with, so that scanners for leaked secrets can know it.
const PREFIX: &str = "weir-admin-";

/// The digest of a token. It recognises the token and cannot give it back.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// The token of the configuration, or else the one made at first start.
    ///
    /// At first start a token is made from 256 random bits, its digest is written to the data directory, and the
    /// token itself is returned beside it: print it once, it is kept nowhere.
    ///
    /// # Errors
    /// A configured token that is empty, a data directory that cannot be read or written, or a damaged file.
    pub fn open(config: Option<&Secret>, data_dir: &Path) -> io::Result<(Self, Option<Secret>)> {
        if let Some(secret) = config {
            return Ok((Self::of(secret)?, None));
        }
        let path = data_dir.join(FILE);
        if let Some(token) = Self::read(&path)? {
            return Ok((token, None));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
        let secret = generate()?;
        let token = Self::of(&secret)?;
        match token.write(data_dir, &path) {
            Ok(()) => Ok((token, Some(secret))),
            // Another process was first: its token is the one that counts.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match Self::read(&path)? {
                Some(token) => Ok((token, None)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The digest of a token that is known.
    ///
    /// # Errors
    /// An empty token: it would let everybody in.
    pub fn of(secret: &Secret) -> io::Result<Self> {
        if secret.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty token authenticates nobody"));
        }
        Ok(Self(Sha256::digest(secret.expose()).into()))
    }

    /// Whether this is the token, in a time that does not tell how much of it is right.
    pub fn accepts(&self, presented: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.0.ct_eq(&presented).into()
    }

    /// Whether a request presents the token: exactly one `Authorization`, of the scheme `Bearer`.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Ok(value) = value.to_str() else {
            return false;
        };
        let Some((scheme, token)) = value.split_once(' ') else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && self.accepts(token.trim_matches(' '))
    }

    /// What a session keeps of it, to end when it is another one.
    pub(super) fn stamp(&self) -> Stamp {
        stamp(&[b"admin token", &self.0])
    }

    fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
        };
        let digest = parse_hex(text.trim_ascii_end()).ok_or_else(|| {
            let message = format!("{}: not a SHA-256; remove it to have a new token made", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        Ok(Some(Self(digest)))
    }

    /// Writes beside and links into place: a crash leaves the whole file or none, and a file that is there stays.
    fn write(&self, data_dir: &Path, path: &Path) -> io::Result<()> {
        // Temporary files are made with mode 0600.
        let mut file = tempfile::Builder::new().prefix(".admin-token").tempfile_in(data_dir)?;
        writeln!(file, "{}", hex(&self.0))?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        fs::File::open(data_dir)?.sync_all()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

fn generate() -> io::Result<Secret> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(format!("no random bytes: {error}")))?;
    Ok(Secret::new(format!("{PREFIX}{}", hex(&random))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|d| char::from_digit(d.into(), 16)).collect()
}

fn parse_hex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_known_again() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let (token, made) = AdminToken::open(None, &data).unwrap();
        let made = made.expect("the first start makes a token");
        let digits = made.expose().strip_prefix("weir-admin-").unwrap();
        assert_eq!((digits.len(), digits.bytes().all(|b| b.is_ascii_hexdigit())), (64, true));
        assert!(token.accepts(made.expose()));

        let (again, none) = AdminToken::open(None, &data).unwrap();
        assert_eq!(none, None, "the second start prints nothing");
        assert!(again.accepts(made.expose()));
        assert!(!again.accepts("weir-admin-"));
    }

    #[test]
    fn the_file_holds_only_the_digest_and_only_its_owner_reads_it() {
        let data = tempfile::tempdir().unwrap();
        let (_, made) = AdminToken::open(None, data.path()).unwrap();
        let digest: [u8; 32] = Sha256::digest(made.unwrap().expose()).into();
        let path = data.path().join(FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", hex(&digest)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn tokens_differ_from_start_to_start() {
        let of = || AdminToken::open(None, tempfile::tempdir().unwrap().path()).unwrap().1.unwrap();
        assert_ne!(of(), of());
    }

    #[test]
    fn of_several_first_starts_at_once_one_makes_the_token() {
        let data = tempfile::tempdir().unwrap();
        let starts: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| AdminToken::open(None, data.path()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        let made: Vec<_> = starts.iter().filter_map(|(_, made)| made.as_ref()).collect();
        assert_eq!(made.len(), 1);
        assert_eq!(starts.iter().filter(|(token, _)| token.accepts(made[0].expose())).count(), 8);
    }

    #[test]
    fn a_configured_token_leaves_no_file() {
        let data = tempfile::tempdir().unwrap();
        let (token, made) = AdminToken::open(Some(&Secret::new("s3cret")), data.path()).unwrap();
        assert_eq!(made, None);
        assert!(token.accepts("s3cret"));
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_configured_token_is_an_error() {
        let data = tempfile::tempdir().unwrap();
        let error = AdminToken::open(Some(&Secret::new("")), data.path()).unwrap_err();
        assert_eq!(error.to_string(), "an empty token authenticates nobody");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_is_kept() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        for text in ["", "ab", &"g".repeat(64), &"a".repeat(65), &format!("{}\u{e9}", "a".repeat(62))] {
            fs::write(&path, text).unwrap();
            let error = AdminToken::open(None, data.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn only_one_bearer_is_admitted() {
        let token = AdminToken::of(&Secret::new("right")).unwrap();
        let headers = |values: &[&str]| {
            values.iter().map(|v| (AUTHORIZATION, HeaderValue::from_str(v).unwrap())).collect::<HeaderMap>()
        };
        for (values, admitted) in [
            (&["Bearer right"][..], true),
            (&["bearer  right"], true),
            (&["Bearer wrong"], false),
            (&["Bearer right wrong"], false),
            (&["Bearer "], false),
            (&["Bearer"], false),
            (&["right"], false),
            (&["Basic right"], false),
            (&[], false),
            (&["Bearer right", "Bearer right"], false),
            (&["Bearer wrong", "Bearer right"], false),
        ] {
            assert_eq!(token.admits(&headers(values)), admitted, "{values:?}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", AdminToken::of(&Secret::new("canary")).unwrap()), "AdminToken(…)");
    }
}

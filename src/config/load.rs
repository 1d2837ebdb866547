//! From a file to a configuration or to all of its mistakes.
//!
//! The only place of this room that touches the file system. Knows neither fields nor rules.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use weir_filters::secret::Secret;

use super::Config;
use super::mistake::{Mistakes, Report, position};
use super::prices::parse_prices;
use super::raw::RawConfig;
use super::redact::redacted;
use super::section::Reader;
use super::tree::Tree;
use super::validate::validate;

/// No configuration, certificate chain or bundle of authorities is near this; `/dev/zero` is.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What a configuration may depend on beside its text.
pub struct Sources<'a> {
    /// The value of an environment variable, if it is set.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// A whole file's text. `InvalidData` stands for a file that is not UTF-8.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// What `threads: 0` stands for.
    pub cores: usize,
}

/// A file, and the SHA-256 of what was in it.
type Print = (PathBuf, [u8; 32]);

/// The files that a configuration was read from, and what was in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<Print>);

impl Fingerprint {
    /// Whether all of them are as they were. A configuration that came from no file is as it was.
    pub fn is_current(&self) -> bool {
        self.0.iter().all(|(path, digest)| read_bytes(path).is_ok_and(|bytes| sha256(&bytes) == *digest))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Reads and checks a configuration file.
///
/// Certificates, authorities and `…_file` secrets are looked for from the file's folder; `data_dir`
/// is taken as it is, from the working directory. `env` gives the value of a variable that is set.
///
/// # Errors
/// All that is wrong, by line. A file that cannot be read is a single mistake, and
/// [`Mistakes::is_unreadable`].
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Mistakes> {
    load_telling(path, env, &|_| ())
}

/// [`load`], telling `reads` every file that the configuration has it read.
///
/// # Errors
/// As [`load`].
pub fn load_telling(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    reads: &dyn Fn(&Path),
) -> Result<Config, Mistakes> {
    let bytes = read_bytes(path).map_err(|error| Mistakes::unreadable(path, &error))?;
    let prints = RefCell::new(vec![(path.to_owned(), sha256(&bytes))]);
    let read = |file: &Path| {
        reads(file);
        let text = read_text(file)?;
        prints.borrow_mut().push((file.to_owned(), sha256(text.as_bytes())));
        Ok(text)
    };
    match String::from_utf8(bytes) {
        Ok(text) => {
            let config = parse_with(&text, path, &Sources { env, read: &read, cores: cores() })?;
            Ok(Config { read_from: Fingerprint(prints.take()), ..config })
        }
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
            let at = position(&before, before.len());
            Err(Mistakes::single(path, at, "not valid UTF-8".to_owned()))
        }
    }
}

/// Checks the text of a configuration file called `file`, whose folder relative paths start from.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Mistakes> {
    parse_with(text, file, &Sources { env, read: &read_text, cores: cores() })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// [`parse`], with everything else that it depends on given.
///
/// # Errors
/// As [`load`].
pub fn parse_with(text: &str, file: &Path, sources: &Sources<'_>) -> Result<Config, Mistakes> {
    let mut report = Report::default();
    let tree = Tree::parse(text, file, sources.env, &mut report)?;
    let mut reader = Reader { tree: &tree, report: &mut report };
    let raw = RawConfig::read(&mut reader);
    let folder = file.parent().unwrap_or(Path::new(""));
    match validate(raw, folder, sources, &mut reader) {
        Some(config) => Ok(config),
        None => Err(report.into_mistakes(file, &tree)),
    }
}

/// What a fuzz target calls: parses any bytes, as a configuration and as prices, without touching files or
/// environment, and checks what holds for every outcome.
///
/// # Panics
/// If a mistake has no position, or if there is neither a configuration nor a mistake.
#[doc(hidden)]
pub fn fuzz_entry(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let env = |name: &str| name.len().is_multiple_of(2).then(|| name.to_lowercase());
    let read = |path: &Path| match path.as_os_str().len() % 3 {
        0 => Err(io::ErrorKind::NotFound.into()),
        1 => Ok("a secret\n".to_owned()),
        _ => Ok("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned()),
    };
    let config = parse_with(&text, Path::new("fuzz.yaml"), &Sources { env: &env, read: &read, cores: 2 });
    if let Ok(config) = &config {
        assert!(!config.listen.is_empty(), "a configuration listens somewhere");
    }
    let prices = parse_prices(&text, Path::new("fuzz.yaml"), &env);
    for mistakes in [config.err(), prices.err()].into_iter().flatten() {
        assert!(!mistakes.is_empty(), "nothing is refused without a mistake");
        for mistake in &mistakes {
            assert!(mistake.line > 0 && mistake.column > 0, "unplaced: {mistake}");
            assert!(!mistake.message.is_empty(), "wordless: {mistake:?}");
        }
    }
}

/// What is in a configuration file, whatever that is, to be shown.
pub struct FileText {
    bytes: Vec<u8>,
    /// The SHA-256 of what is in it.
    pub digest: [u8; 32],
}

impl FileText {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is too large to be a configuration.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = read_bytes(path)?;
        Ok(Self { digest: sha256(&bytes), bytes })
    }

    /// Its text as it may be shown: see [`redacted`].
    pub fn redacted(&self, known: &[Secret]) -> String {
        redacted(&String::from_utf8_lossy(&self.bytes), known)
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bytes(path)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(bytes)
}

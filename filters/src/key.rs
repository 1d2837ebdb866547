//! Client keys: found by digest, admitted by policy.
//!
//! Refuses to know a key itself: what is kept of it is its SHA-256. Knows nothing of what a key has
//! used up (`limits`).

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::credential::Credential;
use crate::glob::Glob;
use crate::limits::{Account, Subject};
use crate::price::PriceRate;
use crate::protocol::Protocol;
use crate::refusal::Refusal;

/// The SHA-256 of a key. Keys are random and long, so that a plain hash hides them; a key that a person
/// made up could be guessed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// The digest of a key as the client presents it.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// What a key of this digest is called where nothing else names it: see [`KeyEntry::id`].
    pub fn key_id(&self) -> String {
        let mut id = Self::of(&self.to_string()).to_string();
        id.truncate(16);
        id
    }

    /// Equality in constant time, eight bytes at a time.
    fn is(&self, other: &Self) -> bool {
        let (words, others) = (self.0.as_chunks::<8>().0, other.0.as_chunks::<8>().0);
        let equal = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a).ct_eq(&u64::from_ne_bytes(*b));
        words.iter().zip(others).map(equal).fold(Choice::from(1), |all, one| all & one).into()
    }

    fn prefix(&self) -> u64 {
        let (first, _) = self.0.split_first_chunk::<8>().expect("a digest has 32 bytes");
        u64::from_ne_bytes(*first)
    }
}

/// 64 lower-case hex digits, as in the configuration.
impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

/// What a key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Whether it may be used at all.
    pub enabled: bool,
    /// From when on it may not, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
    /// The dialects it may speak; empty: all.
    pub protocols: Vec<Protocol>,
    /// The models it may name; empty: all.
    pub models: Vec<Glob>,
    /// The channels it may reach; empty: all.
    pub channels: Vec<Glob>,
}

/// A key that Weir knows.
pub struct KeyEntry {
    /// What records, metrics and logs call it. If nothing else was said, the first 16 hex digits of the
    /// SHA-256 of its digest's 64 hex digits: it stays the same whatever the key is named, anyone who has the
    /// configuration can work it out, and it gives away no part of the digest that lookups compare.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its user's name; empty if it has none.
    pub user: Arc<str>,
    digest: KeyDigest,
    /// The digest that it had before it was rotated.
    previous: Option<Previous>,
    /// What it may do.
    pub policy: KeyPolicy,
    /// What its user's requests are multiplied by.
    pub price_rate: PriceRate,
    accounts: Vec<(Subject, Arc<Account>)>,
}

/// A digest that counts for a while beside the one that took its place.
struct Previous {
    digest: KeyDigest,
    /// From when on it does not, in milliseconds since 1970.
    until_ms: u64,
}

impl KeyEntry {
    /// A key by its digest.
    pub fn new(digest: KeyDigest, name: &str, user: &str, policy: KeyPolicy) -> Self {
        Self {
            id: digest.key_id().into(),
            name: name.into(),
            user: user.into(),
            digest,
            previous: None,
            policy,
            price_rate: PriceRate::default(),
            accounts: Vec::new(),
        }
    }

    /// The same under an id of its own, which stays when the digest changes.
    #[must_use]
    pub fn with_id(self, id: &str) -> Self {
        Self { id: id.into(), ..self }
    }

    /// The same, found by another digest too until then, in milliseconds since 1970.
    #[must_use]
    pub fn with_previous(self, digest: KeyDigest, until_ms: u64) -> Self {
        Self { previous: Some(Previous { digest, until_ms }), ..self }
    }

    /// Whether it is over for this digest, which is one of the key's.
    fn is_over(&self, digest: &KeyDigest, now_ms: u64) -> bool {
        self.previous.as_ref().is_some_and(|previous| previous.until_ms <= now_ms && previous.digest.is(digest))
    }

    /// The same at its user's rate.
    #[must_use]
    pub fn at_rate(self, price_rate: PriceRate) -> Self {
        Self { price_rate, ..self }
    }

    /// The same, with what it and its user may use: an account for each that has limits.
    #[must_use]
    pub fn with_accounts(self, key: Option<Arc<Account>>, user: Option<Arc<Account>>) -> Self {
        let key = key.map(|account| (Subject::Key, account));
        let user = user.map(|account| (Subject::User, account));
        Self { accounts: key.into_iter().chain(user).collect(), ..self }
    }

    /// The accounts with limits that requests of this key are taken from.
    pub fn accounts(&self) -> &[(Subject, Arc<Account>)] {
        &self.accounts
    }

    /// Whether there are any.
    pub fn is_limited(&self) -> bool {
        !self.accounts.is_empty()
    }
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEntry").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Every key that Weir knows.
#[derive(Debug)]
pub struct KeyTable {
    /// Sought by the first 8 bytes of the digest, then compared whole. How long the first takes tells
    /// nothing worth knowing: who could aim at those bytes would have to invert SHA-256.
    by_digest: ByDigest,
}

type ByDigest = HashMap<Sought, Arc<KeyEntry>, BuildHasherDefault<AsItIs>>;

/// A digest in the table itself: it is reached in one step.
#[derive(Debug, Eq)]
struct Sought(KeyDigest);

impl PartialEq for Sought {
    fn eq(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }
}

impl Hash for Sought {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.prefix());
    }
}

/// A part of a SHA-256 is spread as evenly as any hash of it, and the configuration alone fills the table.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, prefix: u64) {
        self.0 = prefix;
    }
}

impl KeyTable {
    /// A table of `keys`. Of two with the same digest the first is found.
    pub fn new(keys: Vec<KeyEntry>) -> Self {
        let mut by_digest = ByDigest::with_capacity_and_hasher(keys.len(), BuildHasherDefault::default());
        let mut rotated = Vec::new();
        for key in keys {
            let key = Arc::new(key);
            rotated.extend(key.previous.is_some().then(|| key.clone()));
            by_digest.entry(Sought(key.digest)).or_insert(key);
        }
        // What a key was known by comes behind what another one is known by.
        for key in rotated {
            if let Some(previous) = &key.previous {
                by_digest.entry(Sought(previous.digest)).or_insert_with(|| key.clone());
            }
        }
        Self { by_digest }
    }

    /// Lets a credential in, as far as that can be said before the model is known.
    ///
    /// # Errors
    /// Why not; with the key, if it is a known one that may not.
    pub fn admit(
        &self,
        credential: &Credential<'_>,
        protocol: Protocol,
        now_ms: u64,
    ) -> Result<Admitted, (Refusal, Option<Arc<KeyEntry>>)> {
        let key = self.identify(credential, now_ms)?;
        if !key.policy.protocols.is_empty() && !key.policy.protocols.contains(&protocol) {
            return Err((Refusal::ProtocolNotPermitted, Some(key.clone())));
        }
        Ok(Admitted { key: key.clone(), _made_by_admission: Admission })
    }

    /// Whose credential it is, if it counts now. It says nothing of what the key may be used for.
    ///
    /// # Errors
    /// Why it does not; with the key, if it is a known one.
    pub fn identify(
        &self,
        credential: &Credential<'_>,
        now_ms: u64,
    ) -> Result<&Arc<KeyEntry>, (Refusal, Option<Arc<KeyEntry>>)> {
        let digest = KeyDigest::of(credential.expose());
        let Some(key) = self.find(&digest).filter(|key| !key.is_over(&digest, now_ms)) else {
            return Err((Refusal::UnknownKey, None));
        };
        if !key.policy.enabled {
            return Err((Refusal::KeyDisabled, Some(key.clone())));
        }
        if key.policy.expires_ms.is_some_and(|expires| expires <= now_ms) {
            return Err((Refusal::KeyExpired, Some(key.clone())));
        }
        Ok(key)
    }

    /// Every key, once, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<KeyEntry>> {
        // One that was rotated is found by two digests.
        self.by_digest.iter().filter(|(sought, key)| sought.0.is(&key.digest)).map(|(_, key)| key)
    }

    fn find(&self, digest: &KeyDigest) -> Option<&Arc<KeyEntry>> {
        self.by_digest.get(&Sought(*digest))
    }
}

/// A key that was let in. Only [`KeyTable::admit`] can make one.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The key.
    pub key: Arc<KeyEntry>,
    _made_by_admission: Admission,
}

#[derive(Clone, Debug)]
struct Admission;

impl Admitted {
    /// Whether the key may name `model`.
    pub fn permits_model(&self, model: &str) -> bool {
        permits(&self.key.policy.models, model)
    }

    /// Whether the key may reach the channel of that name.
    pub fn permits_channel(&self, name: &str) -> bool {
        permits(&self.key.policy.channels, name)
    }

    /// Whether there are models that the key may not name. Then a request has to name one.
    pub fn has_model_limits(&self) -> bool {
        !self.key.policy.models.is_empty()
    }
}

fn permits(globs: &[Glob], name: &str) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(name))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn open() -> KeyPolicy {
        KeyPolicy { enabled: true, expires_ms: None, protocols: vec![], models: vec![], channels: vec![] }
    }

    fn entry(key: &str, policy: KeyPolicy) -> KeyEntry {
        KeyEntry::new(KeyDigest::of(key), "alice-laptop", "alice", policy)
    }

    fn admit(table: &KeyTable, key: &str, protocol: Protocol) -> Result<Admitted, (Refusal, Option<Arc<KeyEntry>>)> {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_str(key).unwrap());
        let credential = crate::credential::present(&headers, None).unwrap();
        table.admit(&credential, protocol, NOW)
    }

    fn refusal(policy: KeyPolicy) -> Option<Refusal> {
        match admit(&KeyTable::new(vec![entry("wk-1", policy)]), "wk-1", Protocol::Anthropic) {
            Ok(_) => None,
            Err((refusal, key)) => {
                assert_eq!(&*key.expect("a known key is named when it is refused").name, "alice-laptop");
                Some(refusal)
            }
        }
    }

    #[test]
    fn a_digest_is_the_sha_256_in_hex() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyDigest::of("abc").to_string(), abc);
        assert_eq!(format!("{:?}", KeyDigest::of("abc")), format!("KeyDigest({abc})"));
    }

    #[test]
    fn an_id_is_a_hash_of_the_digest_and_shows_nothing_of_it() {
        let key = entry("abc", open());
        // printf %s ba78…15ad | sha256sum | head -c 16
        assert_eq!(&*key.id, "dfe7a23fefeea519");
        assert_eq!(format!("{key:?}"), r#"KeyEntry { id: "dfe7a23fefeea519", name: "alice-laptop", .. }"#);
    }

    #[test]
    fn a_known_key_is_admitted_and_an_unknown_one_is_not() {
        let table = KeyTable::new((0..100).map(|i| entry(&format!("wk-{i}"), open())).collect());
        let admitted = admit(&table, "wk-42", Protocol::OpenAi).unwrap();
        assert_eq!(admitted.key.id, entry("wk-42", open()).id);
        assert_eq!((&*admitted.key.name, &*admitted.key.user), ("alice-laptop", "alice"));
        for key in ["wk-100", "wk-", "WK-42", "wk-42x"] {
            let (refusal, known) = admit(&table, key, Protocol::OpenAi).unwrap_err();
            assert_eq!((refusal, known.is_none()), (Refusal::UnknownKey, true), "{key}");
        }
        assert!(admit(&KeyTable::new(vec![]), "wk-1", Protocol::OpenAi).is_err());
    }

    #[test]
    fn a_rotated_key_is_found_by_both_digests_until_the_overlap_ends() {
        let rotated =
            |until| entry("wk-new", open()).with_id("0123456789abcdef").with_previous(KeyDigest::of("wk-old"), until);
        let table = KeyTable::new(vec![rotated(NOW + 1), entry("wk-other", open())]);
        for key in ["wk-new", "wk-old"] {
            let admitted = admit(&table, key, Protocol::OpenAi).unwrap();
            assert_eq!(&*admitted.key.id, "0123456789abcdef", "it is the same key: {key}");
        }
        let table = KeyTable::new(vec![rotated(NOW)]);
        assert!(admit(&table, "wk-new", Protocol::OpenAi).is_ok());
        let (refusal, key) = admit(&table, "wk-old", Protocol::OpenAi).unwrap_err();
        assert_eq!((refusal, key.is_none()), (Refusal::UnknownKey, true), "as if it had never been");
    }

    #[test]
    fn what_a_key_was_known_by_never_hides_another_key() {
        let rotated = entry("wk-new", open()).with_id("rotated").with_previous(KeyDigest::of("wk-old"), 0);
        let table = KeyTable::new(vec![rotated, entry("wk-old", open()).with_id("owner")]);
        assert_eq!(&*admit(&table, "wk-old", Protocol::OpenAi).unwrap().key.id, "owner");
        let back = entry("wk-1", open()).with_previous(KeyDigest::of("wk-1"), u64::MAX);
        assert!(admit(&KeyTable::new(vec![back]), "wk-1", Protocol::OpenAi).is_ok());
    }

    #[test]
    fn the_whole_digest_counts_not_only_what_finds_it() {
        let mut digest = KeyDigest::of("wk-1");
        digest.0[31] ^= 1;
        let neighbour = KeyEntry::new(digest, "neighbour", "", open());
        let alone = KeyTable::new(vec![KeyEntry::new(digest, "neighbour", "", open())]);
        assert_eq!(admit(&alone, "wk-1", Protocol::OpenAi).unwrap_err().0, Refusal::UnknownKey);
        let both = KeyTable::new(vec![neighbour, entry("wk-1", open())]);
        assert_eq!(&*admit(&both, "wk-1", Protocol::OpenAi).unwrap().key.name, "alice-laptop");
    }

    #[test]
    fn a_known_key_may_be_refused_by_its_policy() {
        assert_eq!(refusal(open()), None);
        assert_eq!(refusal(KeyPolicy { enabled: false, ..open() }), Some(Refusal::KeyDisabled));
        assert_eq!(refusal(KeyPolicy { expires_ms: Some(NOW), ..open() }), Some(Refusal::KeyExpired));
        assert_eq!(refusal(KeyPolicy { expires_ms: Some(NOW + 1), ..open() }), None);
        let openai_only = KeyPolicy { protocols: vec![Protocol::OpenAi], ..open() };
        assert_eq!(refusal(openai_only), Some(Refusal::ProtocolNotPermitted));
        let both = KeyPolicy { protocols: vec![Protocol::OpenAi, Protocol::Anthropic], ..open() };
        assert_eq!(refusal(both), None);
        let disabled_first = KeyPolicy { enabled: false, expires_ms: Some(0), ..open() };
        assert_eq!(refusal(disabled_first), Some(Refusal::KeyDisabled));
    }

    #[test]
    fn models_and_channels_go_by_glob_and_an_empty_list_is_all() {
        let limited = KeyPolicy {
            models: vec![Glob::new("gpt-*"), Glob::new("o3")],
            channels: vec![Glob::new("mini*")],
            ..open()
        };
        let table = KeyTable::new(vec![entry("wk-open", open()), entry("wk-limited", limited)]);
        let open = admit(&table, "wk-open", Protocol::OpenAi).unwrap();
        assert!(open.permits_model("anything") && open.permits_channel("any") && !open.has_model_limits());
        let limited = admit(&table, "wk-limited", Protocol::OpenAi).unwrap();
        assert!(limited.has_model_limits());
        for (model, permitted) in [("gpt-4o", true), ("o3", true), ("o3-mini", false), ("GPT-4o", false), ("", false)] {
            assert_eq!(limited.permits_model(model), permitted, "{model}");
        }
        assert_eq!((limited.permits_channel("miniai"), limited.permits_channel("other")), (true, false));
    }

    #[test]
    fn every_key_is_told_once_also_one_that_is_found_by_two_digests() {
        let rotated = entry("new", open()).with_previous(KeyDigest::of("old"), 9);
        let table = KeyTable::new(vec![rotated, entry("other", open())]);
        let mut ids: Vec<&str> = table.iter().map(|key| &*key.id).collect();
        ids.sort_unstable();
        let mut expected = ["new", "other"].map(|key| KeyDigest::of(key).key_id());
        expected.sort_unstable();
        assert_eq!(ids, expected);
    }
}

//! The time that a look-up takes says nothing of the keys that there are.

use std::hint::black_box;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use weir_filters::credential::present;
use weir_filters::key::{KeyDigest, KeyEntry, KeyPolicy, KeyTable};
use weir_filters::protocol::Protocol;

/// Beyond this two means are told apart: the bound of the method called dudect.
const BOUND: f64 = 4.5;
/// What is interrupted takes longer whatever it does: of each twenty the slowest is left out.
const KEPT: (usize, usize) = (19, 20);

/// How many octets at its end are another key's own that is almost right.
const DRAWN: usize = 9;
/// Keys are made before the time is taken, so many at once.
const BATCH: usize = 500;

/// Numbers that look like drawn by lot, and are the same in each run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).filter_map(|_| char::from_digit(u32::try_from(self.next() % 16).ok()?, 16)).collect()
    }
}

/// A key that exists, and others of its length.
struct Keys {
    real: String,
    draw: Draw,
}

impl Keys {
    fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        Self { real: format!("wk-{}", draw.hex(48)), draw }
    }

    /// One that differs in its last octets, or in all but its beginning. Both are made by the same steps, and each
    /// is another one, so that nothing else tells them apart.
    fn other(&mut self, almost: bool) -> Vec<u8> {
        let kept = if almost { self.real.len() - DRAWN } else { 3 };
        let drawn = self.draw.hex(self.real.len());
        let mut key = self.real.clone().into_bytes();
        for (at, (octet, drawn)) in key.iter_mut().zip(drawn.bytes()).enumerate() {
            let differs = u8::from(at >= kept).wrapping_neg();
            *octet ^= (*octet ^ drawn) & differs;
        }
        // A letter that no hex digit is: it is never the real one.
        *key.last_mut().expect("a key has octets") = b'z';
        key
    }
}

/// Welch's t of the times of `ask` for keys of both kinds, which come in an order drawn by lot.
fn t(keys: &mut Keys, count: usize, mut ask: impl FnMut(&str) -> bool) -> f64 {
    let mut times: Vec<(bool, u32)> = Vec::with_capacity(count);
    // All are asked about from one place in memory.
    let mut place = keys.real.clone().into_bytes();
    while times.len() < count {
        let drawn: Vec<(bool, Vec<u8>)> = (0..BATCH)
            .map(|_| {
                let almost = keys.draw.next() & 64 == 0;
                (almost, keys.other(almost))
            })
            .collect();
        for (almost, key) in drawn {
            place.copy_from_slice(&key);
            let key = std::str::from_utf8(black_box(&place)).expect("text");
            let begun = Instant::now();
            let found = black_box(ask(key));
            let took = u32::try_from(begun.elapsed().as_nanos()).expect("a short time");
            assert!(!found, "none of them exists");
            times.push((almost, took));
        }
    }
    let count = times.len();
    let mut sorted: Vec<u32> = times.iter().map(|(_, took)| *took).collect();
    sorted.sort_unstable();
    let most = sorted[(count * KEPT.0 / KEPT.1).min(count - 1)];
    let of = |kind: bool| {
        let kept = times.iter().filter(|(almost, took)| *almost == kind && *took <= most);
        let kept: Vec<f64> = kept.map(|(_, took)| f64::from(*took)).collect();
        let n = f64::from(u32::try_from(kept.len()).expect("not so many"));
        let mean = kept.iter().sum::<f64>() / n;
        (mean, kept.iter().map(|took| (took - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((a, of_a), (b, of_b)) = (of(true), of(false));
    (a - b) / (of_a + of_b).sqrt().max(f64::MIN_POSITIVE)
}

/// A comparison that stops at the first octet that differs, each of which costs a little.
fn early(key: &str, real: &str) -> bool {
    key.len() == real.len() && key.bytes().zip(real.bytes()).all(|(a, b)| black_box(a) == black_box(b))
}

#[test]
fn a_key_that_is_almost_right_takes_no_longer_to_refuse() {
    let count = std::env::var("WEIR_TRUST_LOOKUPS").ok().and_then(|n| n.parse().ok()).unwrap_or(60_000);
    let mut keys = Keys::new(0x9e37_79b9_7f4a_7c15);
    let policy = KeyPolicy { enabled: true, expires_ms: None, protocols: vec![], models: vec![], channels: vec![] };
    let mut all = vec![keys.real.clone()];
    all.extend((0..999).map(|_| format!("wk-{}", keys.draw.hex(48))));
    let entry = |key: &String| KeyEntry::new(KeyDigest::of(key), "alice", "", policy.clone());
    let table = KeyTable::new(all.iter().map(entry).collect());
    let lookup = t(&mut keys, count, |key| {
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value(key))]);
        let credential = present(&headers, None).expect("a credential");
        table.admit(&credential, Protocol::OpenAi, 0).is_ok()
    });
    let real = keys.real.clone();
    let leaky = t(&mut keys, count, |key| early(key, &real));
    println!("trust: t = {lookup:.2} over {count} look-ups; a comparison that stops early has t = {leaky:.0}");
    assert!(leaky.abs() > BOUND, "the measurement finds nothing: t = {leaky}");
    assert!(lookup.abs() < BOUND, "t = {lookup}");
}

fn value(key: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {key}")).expect("text")
}

//! Records on their way to the sinks: many lines in one piece, and what an index needs to know of each.
//!
//! Owns the form in which sinks get records. Refuses to know what a field means.

/// Some records, in the order in which their requests ended on one thread.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Records, each one JSON object and a line feed.
    pub(crate) lines: Vec<u8>,
    /// One for each line.
    pub(crate) entries: Vec<Entry>,
    /// The records' lines of the access log, if one is kept.
    pub(crate) access: Vec<u8>,
}

/// What can be said of a record without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where its line ends in [`Batch::lines`], line feed included.
    pub(crate) end: usize,
    /// The request's id.
    pub(crate) id: u128,
    /// When the request arrived, in milliseconds since 1970-01-01 UTC.
    pub(crate) time_ms: u64,
    /// The status that the client got; 0: it left before one was sent.
    pub(crate) status: u16,
    /// What [`term`] gives for the key's name, the user, the model that was asked for and the channel.
    pub(crate) key: u64,
    pub(crate) user: u64,
    pub(crate) model: u64,
    pub(crate) channel: u64,
}

impl Batch {
    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that it holds in memory.
    pub(crate) fn size(&self) -> usize {
        self.lines.len() + self.access.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Each record with its line, line feed included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Entry, &[u8])> {
        let mut begin = 0;
        self.entries.iter().map(move |entry| {
            let line = &self.lines[begin..entry.end];
            begin = entry.end;
            (entry, line)
        })
    }
}

/// A name as indexes have it: 64 bits that are the same in every process (FNV-1a). 0 stands for the empty name.
/// Two names can have the same ones; whoever looks one up compares the record too.
pub(crate) fn term(name: &str) -> u64 {
    if name.is_empty() {
        return 0;
    }
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
pub(crate) fn batch_of<'a>(lines: impl IntoIterator<Item = (&'a str, u128)>) -> Batch {
    let mut batch = Batch::default();
    for (line, id) in lines {
        batch.lines.extend_from_slice(line.as_bytes());
        batch.lines.push(b'\n');
        let end = batch.lines.len();
        let term = |field: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            term(value[field].as_str().unwrap_or_default())
        };
        batch.entries.push(Entry {
            end,
            id,
            time_ms: 1_764_000_000_000 + u64::try_from(id).unwrap(),
            status: 200,
            key: term("key_name"),
            user: term("user"),
            model: term("model_requested"),
            channel: term("channel"),
        });
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_has_its_own_line() {
        let batch = batch_of([("{\"a\":1}", 1), ("{}", 2)]);
        let lines: Vec<_> = batch.iter().map(|(entry, line)| (entry.id, line)).collect();
        assert_eq!(lines, [(1, &b"{\"a\":1}\n"[..]), (2, b"{}\n")]);
        assert_eq!((batch.len(), batch.is_empty()), (2, false));
    }

    #[test]
    fn a_name_has_the_same_term_in_every_process() {
        assert_eq!(term("alice"), 0x508b_2abb_65a0_3907);
        assert_ne!(term("alice"), term("Alice"));
        assert_eq!(term(""), 0);
    }
}

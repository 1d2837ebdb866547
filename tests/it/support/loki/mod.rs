//! A Loki that is as strict as the real one with its default limits, and stricter in two things: a new record never
//! comes before an older one of its stream, and a body says what it is. What it decodes with was written by others.
//!
//! It takes the valid lines of a push that it refuses for others, as the real one does, and knows a record again by
//! its time and line. It knows nothing of Weir, so that it can stand before any client.

mod decode;
mod wire;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::decode::decoded;
use self::wire::{Push, read, reset, write};

/// `limits_config.max_line_size`
const MAX_LINE: usize = 256 << 10;
/// `grpc_server_max_recv_msg_size`, and what its gateway takes of a body.
const MAX_PUSH: usize = 4 << 20;
/// `limits_config.reject_old_samples_max_age` and `creation_grace_period`
const OLDEST: Duration = Duration::from_secs(7 * 86_400);
const NEWEST: Duration = Duration::from_secs(600);
/// For a connection on which nothing comes.
const IDLE: Duration = Duration::from_secs(60);

/// How it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As a Loki that is well.
    Well,
    /// Not at all, until its mood changes; then late.
    Hangs,
    /// With this, whatever comes.
    Says { status: u16, headers: Vec<(&'static str, String)>, body: &'static str },
    /// With these bytes.
    Garbage(&'static [u8]),
    /// By a reset of the connection, once it has the push.
    Resets,
    /// The same, but it keeps the records.
    TakesAndResets,
}

/// A record that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) time_ns: u64,
    pub(crate) line: String,
}

/// The stand-in. It ends with its value.
pub(crate) struct Loki {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mood: Mood,
    /// How the next pushes are answered, before `mood` counts.
    next: VecDeque<Mood>,
    is_over: bool,
    /// Headers that every push must have, with their values.
    wanted: Vec<(&'static str, String)>,
    /// Lines with this in them are refused.
    hated: Option<&'static str>,
    is_ordered: bool,
    stored: Vec<Stored>,
    streams: BTreeMap<BTreeMap<String, String>, Stream>,
    complaints: Vec<String>,
    pushes: usize,
    repeated: usize,
}

#[derive(Default)]
struct Stream {
    highest_ns: u64,
    seen: HashSet<(u64, String)>,
}

struct Answer {
    status: u16,
    text: String,
}

impl Loki {
    /// One that is well.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            mood: Mood::Well,
            next: VecDeque::new(),
            is_over: false,
            wanted: Vec::new(),
            hated: None,
            is_ordered: true,
            stored: Vec::new(),
            streams: BTreeMap::new(),
            complaints: Vec::new(),
            pushes: 0,
            repeated: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.lock().is_over {
                    return;
                }
                let serving = accepting.clone();
                thread::spawn(move || stream.and_then(|stream| serving.serve(stream)));
            }
        });
        Self { address, shared }
    }

    /// Every push must have this header.
    pub(crate) fn wants(self, name: &'static str, value: &str) -> Self {
        self.shared.lock().wanted.push((name, value.to_owned()));
        self
    }

    /// Refuses every line that has this in it.
    pub(crate) fn hates(self, text: &'static str) -> Self {
        self.shared.lock().hated = Some(text);
        self
    }

    /// Takes new records out of order, as the real one does within an hour: for more than one client.
    pub(crate) fn in_any_order(self) -> Self {
        self.shared.lock().is_ordered = false;
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub(crate) fn feels(&self, mood: Mood) {
        self.shared.lock().mood = mood;
        self.shared.changed.notify_all();
    }

    /// What it does with the next pushes, before its mood counts again.
    pub(crate) fn then(&self, moods: impl IntoIterator<Item = Mood>) {
        self.shared.lock().next.extend(moods);
    }

    /// Its records, in the order in which they came; none is there twice.
    pub(crate) fn stored(&self) -> Vec<Stored> {
        self.shared.lock().stored.clone()
    }

    /// What it refused of its own accord, and why.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.shared.lock().complaints.clone()
    }

    /// How many pushes came, whatever became of them.
    pub(crate) fn pushes(&self) -> usize {
        self.shared.lock().pushes
    }

    /// How many records came that it had already.
    pub(crate) fn repeated(&self) -> usize {
        self.shared.lock().repeated
    }
}

impl Drop for Loki {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        while let Some(push) = read(&mut stream, &mut buffer)? {
            let mut state = self.lock();
            state.pushes += 1;
            let mood = state.next.pop_front().unwrap_or_else(|| state.mood.clone());
            match mood {
                Mood::Well => {}
                Mood::Hangs => {
                    while state.mood == Mood::Hangs && !state.is_over {
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    if state.is_over {
                        return Ok(());
                    }
                }
                Mood::Says { status, headers, body } => {
                    drop(state);
                    write(&mut stream, status, &headers, body)?;
                    continue;
                }
                Mood::Garbage(bytes) => {
                    drop(state);
                    return stream.write_all(bytes);
                }
                Mood::Resets => return reset(&stream),
                Mood::TakesAndResets => {
                    state.take(&push);
                    return reset(&stream);
                }
            }
            let answer = state.take(&push);
            if answer.status != 204 {
                state.complaints.push(format!("{}: {}", answer.status, answer.text));
            }
            drop(state);
            write(&mut stream, answer.status, &[], &answer.text)?;
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, push: &Push) -> Answer {
        self.checked(push).unwrap_or_else(|refusal| refusal)
    }

    fn checked(&mut self, push: &Push) -> Result<Answer, Answer> {
        let refuse = |status, text: String| Err(Answer { status, text });
        if push.path != "/loki/api/v1/push" {
            return refuse(404, "404 page not found".to_owned());
        }
        if push.method != "POST" {
            return refuse(405, String::new());
        }
        for (name, value) in &self.wanted {
            if push.header(name) != Some(value) {
                return refuse(401, format!("no such {name}"));
            }
        }
        if push.body.len() > MAX_PUSH {
            return refuse(413, "413 Request Entity Too Large".to_owned());
        }
        let streams = decoded(push).map_err(|text| Answer { status: 400, text })?;
        let size: usize = streams.iter().flat_map(|(_, entries)| entries).map(|(_, line)| line.len() + 20).sum();
        if size > MAX_PUSH {
            let text = format!(
                "rpc error: code = ResourceExhausted desc = grpc: received message larger than max ({size} vs. {MAX_PUSH})"
            );
            return refuse(500, text);
        }
        let mut errors = Vec::new();
        for (labels, entries) in streams {
            match labels {
                Ok(labels) => errors.extend(entries.into_iter().filter_map(|entry| self.keep(&labels, entry).err())),
                Err(error) => errors.push(error),
            }
        }
        match errors.first() {
            None => Ok(Answer { status: 204, text: String::new() }),
            Some(error) => refuse(400, format!("{error} ({} lines in all)", errors.len())),
        }
    }

    fn keep(&mut self, labels: &BTreeMap<String, String>, (time_ns, line): (u64, String)) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let time = Duration::from_nanos(time_ns);
        if time + OLDEST < now {
            return Err(format!("entry for stream '{labels:?}' has timestamp too old: {time_ns}"));
        }
        if time > now + NEWEST {
            return Err(format!("entry for stream '{labels:?}' has timestamp too new: {time_ns}"));
        }
        if line.len() > MAX_LINE {
            let len = line.len();
            return Err(format!(
                "Max entry size '{MAX_LINE}' bytes exceeded for stream '{labels:?}' while adding an entry with length '{len}' bytes"
            ));
        }
        if self.hated.is_some_and(|text| line.contains(text)) {
            return Err("a line that is hated".to_owned());
        }
        let stream = self.streams.entry(labels.clone()).or_default();
        if stream.seen.contains(&(time_ns, line.clone())) {
            self.repeated += 1;
            return Ok(());
        }
        if self.is_ordered && time_ns < stream.highest_ns {
            return Err(format!("entry out of order for stream '{labels:?}': {time_ns} after {}", stream.highest_ns));
        }
        stream.highest_ns = stream.highest_ns.max(time_ns);
        stream.seen.insert((time_ns, line.clone()));
        self.stored.push(Stored { labels: labels.clone(), time_ns, line });
        Ok(())
    }
}

//! The command's arguments: as written, then as meant. Every mistake is named before anything runs.

use std::fmt::Display;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::bench::Bench;

pub(crate) const USAGE: &str = "\
weir-load: the upstream and the load of Weir's benchmarks

weir-load mock --listen 127.0.0.1:PORT
    [--tick MICROSECONDS]      events of paced streams are written at multiples of this time (default 250)

weir-load load --target 127.0.0.1:PORT --bench BENCH --connections N --seconds S
    [--mock 127.0.0.1:PORT]    the mock in the load's thread: neither ever sleeps, so waking them costs a proxy nothing
    [--tick MICROSECONDS]      of that mock
    [--delay S]                how long that mock serves before the load begins: time for a proxy to start
    BENCH                      json, or sse;events=N;every=MICROSECONDS;batch=B
    [--path PATH]              default /v1/chat/completions
    [--body-bytes N]           size of a request's body (default 300)
    [--keys-file FILE]         one client key a line; each request takes the next
    [--direct]                 to the mock itself: its key, and nothing for a proxy to remove; --target may be left out
                               if there is --mock
    [--include-usage]          streams ask for usage themselves
    [--mode closed|open]       default closed: the next request follows the last
    [--rate R]                 open: arrivals a second in all
    [--reconnect]              a connection for each request
    [--warmup S]               default 1; figures are taken in the --seconds after it
    [--expect-status STATUS]   default 200
    [--timeout S]              default 10: a request, or a paced stream's silence, that lasts longer is an error
    [--cpu PID,PID,...]        processes whose CPU time and memory are reported
";

/// More connections than one address of a target has ports for.
const MAX_CONNECTIONS: usize = 28_000;

/// Between the times at which paced events are written; the longest is in microseconds.
const DEFAULT_TICK: Duration = Duration::from_micros(250);
const MAX_TICK: u64 = 1_000_000;

/// The largest request body.
const MAX_BODY_BYTES: usize = 64 << 20;

/// A day: every time in nanoseconds fits.
const MAX_SECONDS: f64 = 86_400.0;

/// What to run.
#[derive(Debug)]
pub(crate) enum Command {
    Mock(MockOptions),
    Load(Box<LoadOptions>),
    Help,
}

#[derive(Debug)]
pub(crate) struct MockOptions {
    pub(crate) listen: SocketAddrV4,
    pub(crate) tick: Duration,
}

#[derive(Debug)]
pub(crate) struct LoadOptions {
    /// `None` is the mock of this load.
    pub(crate) target: Option<SocketAddrV4>,
    pub(crate) mock: Option<MockOptions>,
    pub(crate) delay: Duration,
    pub(crate) path: String,
    /// As it is sent.
    pub(crate) bench_value: String,
    pub(crate) bench: Bench,
    pub(crate) body_bytes: usize,
    pub(crate) keys: Keys,
    pub(crate) include_usage: bool,
    pub(crate) connections: usize,
    /// Arrivals a second; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) reconnect: bool,
    pub(crate) warmup: Duration,
    pub(crate) window: Duration,
    pub(crate) expect_status: u16,
    pub(crate) timeout: Duration,
    pub(crate) pids: Vec<i32>,
}

#[derive(Debug)]
pub(crate) enum Keys {
    /// Client keys, for a proxy to check and replace.
    File(PathBuf),
    /// The upstream's own key: there is no proxy.
    Direct,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut written = Written(arguments.collect());
    if written.0.iter().any(|argument| argument == "--help" || argument == "-h") {
        return Ok(Command::Help);
    }
    let command = if written.0.is_empty() { String::new() } else { written.0.remove(0) };
    let command = match command.as_str() {
        "mock" => Command::Mock(MockOptions {
            listen: written.required("--listen")?,
            tick: written.tick()?.unwrap_or(DEFAULT_TICK),
        }),
        "load" => Command::Load(Box::new(load_options(&mut written)?)),
        "" => return Err("a command is missing: mock or load".into()),
        other => return Err(format!("unknown command {other}: it is mock or load")),
    };
    match written.0.first() {
        None => Ok(command),
        Some(left) => Err(format!("unexpected argument {left}")),
    }
}

fn load_options(written: &mut Written) -> Result<LoadOptions, String> {
    let bench_value: String = written.required("--bench")?;
    let bench = Bench::parse(bench_value.as_bytes())
        .ok_or_else(|| format!("--bench {bench_value}: it is json or sse;events=N;every=MICROSECONDS;batch=B"))?;
    let keys = match (written.optional("--keys-file")?, written.flag("--direct")) {
        (Some(file), false) => Keys::File(file),
        (None, true) => Keys::Direct,
        _ => return Err("one of --keys-file and --direct is needed".into()),
    };
    let rate: Option<f64> = written.optional("--rate")?;
    let rate = match (written.optional::<String>("--mode")?.as_deref(), rate) {
        (None | Some("closed"), None) => None,
        (Some("open"), Some(rate)) if rate > 0.0 && rate <= 1e7 => Some(rate),
        (Some("open"), Some(rate)) => return Err(format!("--rate {rate}: not a rate")),
        (Some("open"), None) => return Err("--mode open needs --rate".into()),
        (None | Some("closed"), Some(_)) => return Err("--rate needs --mode open".into()),
        (Some(other), _) => return Err(format!("--mode {other}: it is closed or open")),
    };
    let (listen, tick, delay) = (written.optional("--mock")?, written.tick()?, written.seconds("--delay")?);
    let mock = match listen {
        Some(listen) => Some(MockOptions { listen, tick: tick.unwrap_or(DEFAULT_TICK) }),
        None if tick.is_some() || delay.is_some() => return Err("--tick and --delay need --mock".into()),
        None => None,
    };
    let target = written.optional("--target")?;
    if target.is_none() && (mock.is_none() || matches!(keys, Keys::File(_))) {
        return Err("--target is missing".into());
    }
    let options = LoadOptions {
        target,
        mock,
        delay: delay.unwrap_or_default(),
        path: written.optional("--path")?.unwrap_or_else(|| "/v1/chat/completions".into()),
        bench_value,
        bench,
        body_bytes: written.optional("--body-bytes")?.unwrap_or(300),
        keys,
        include_usage: written.flag("--include-usage"),
        connections: written.required("--connections")?,
        rate,
        reconnect: written.flag("--reconnect"),
        warmup: written.seconds("--warmup")?.unwrap_or(Duration::from_secs(1)),
        window: written.seconds("--seconds")?.ok_or("--seconds is missing")?,
        expect_status: written.optional("--expect-status")?.unwrap_or(200),
        timeout: written.seconds("--timeout")?.unwrap_or(Duration::from_secs(10)),
        pids: written.list("--cpu")?,
    };
    if !(1..=MAX_CONNECTIONS).contains(&options.connections) {
        return Err(format!("--connections {}: it is 1 to {MAX_CONNECTIONS}", options.connections));
    }
    if options.body_bytes > MAX_BODY_BYTES {
        return Err(format!("--body-bytes {}: at most {MAX_BODY_BYTES}", options.body_bytes));
    }
    if options.window.is_zero() || options.timeout.is_zero() {
        return Err("--seconds and --timeout are more than 0".into());
    }
    if !options.path.starts_with('/') || options.path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(format!("--path {}: it is a path, encoded", options.path));
    }
    Ok(options)
}

/// Arguments that are not read yet.
struct Written(Vec<String>);

impl Written {
    fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|argument| argument == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(at) = self.0.iter().position(|argument| argument == name) else { return Ok(None) };
        self.0.remove(at);
        if at == self.0.len() {
            return Err(format!("{name} needs a value"));
        }
        let value = self.0.remove(at);
        value.parse().map(Some).map_err(|error| format!("{name} {value}: {error}"))
    }

    fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<T, String> {
        self.optional(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    fn seconds(&mut self, name: &str) -> Result<Option<Duration>, String> {
        match self.optional::<f64>(name)? {
            None => Ok(None),
            Some(seconds) if (0.0..=MAX_SECONDS).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
            Some(seconds) => Err(format!("{name} {seconds}: it is 0 to {MAX_SECONDS} seconds")),
        }
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        match self.optional("--tick")? {
            None => Ok(None),
            Some(micros @ 0..=MAX_TICK) => Ok(Some(Duration::from_micros(micros))),
            Some(micros) => Err(format!("--tick {micros}: it is at most {MAX_TICK} microseconds")),
        }
    }

    fn list(&mut self, name: &str) -> Result<Vec<i32>, String> {
        let Some(list) = self.optional::<String>(name)? else { return Ok(Vec::new()) };
        let number = |entry: &str| entry.parse().ok().filter(|pid| *pid > 0);
        list.split(',')
            .map(|entry| number(entry).ok_or_else(|| format!("{name} {list}: {entry:?} is no process id")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    const LEAST: &str = "load --target 127.0.0.1:1 --bench json --connections 4 --seconds 2 --direct";

    #[test]
    fn arguments_are_read_in_any_order() {
        let line = "load --seconds 0.5 --mode open --rate 4000 --cpu 1,22 --reconnect --keys-file k --connections 64 \
                    --bench sse;events=9 --target 127.0.0.1:80 --warmup 0 --include-usage";
        let Ok(Command::Load(options)) = words(line) else { panic!("refused") };
        assert_eq!((options.window, options.warmup), (Duration::from_millis(500), Duration::ZERO));
        assert_eq!((options.rate, options.connections, options.pids), (Some(4000.0), 64, vec![1, 22]));
        assert!(options.reconnect && options.include_usage && matches!(options.keys, Keys::File(_)));
        let Ok(Command::Load(options)) = words(LEAST) else { panic!("refused") };
        assert_eq!((options.body_bytes, options.expect_status, options.rate), (300, 200, None));
        assert!(options.mock.is_none() && options.target == Some("127.0.0.1:1".parse().unwrap()));
        assert!(matches!(words("mock --listen 127.0.0.1:0"), Ok(Command::Mock(_))));
        assert!(matches!(words("load --help"), Ok(Command::Help)));
    }

    #[test]
    fn a_mock_in_the_load_may_be_its_target() {
        let direct = LEAST.replace("--target 127.0.0.1:1 ", "");
        let Ok(Command::Load(options)) = words(&format!("{direct} --mock 127.0.0.1:9 --tick 50 --delay 2")) else {
            panic!("refused")
        };
        let mock = options.mock.unwrap();
        assert_eq!((mock.listen, mock.tick), ("127.0.0.1:9".parse().unwrap(), Duration::from_micros(50)));
        assert_eq!((options.target, options.delay), (None, Duration::from_secs(2)));
        let through = direct.replace("--direct", "--keys-file k --mock 127.0.0.1:9");
        for line in [direct, through] {
            assert_eq!(words(&line).unwrap_err(), "--target is missing", "{line}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let cases = [
            ("".to_owned(), "a command is missing: mock or load"),
            ("serve".to_owned(), "unknown command serve: it is mock or load"),
            ("mock".to_owned(), "--listen is missing"),
            ("mock --listen localhost:1".to_owned(), "--listen localhost:1: invalid IPv4 socket address syntax"),
            (
                "mock --listen 127.0.0.1:1 --tick 1000001".to_owned(),
                "--tick 1000001: it is at most 1000000 microseconds",
            ),
            ("mock --listen 127.0.0.1:1 extra".to_owned(), "unexpected argument extra"),
            (LEAST.replace(" --direct", ""), "one of --keys-file and --direct is needed"),
            (format!("{LEAST} --keys-file k"), "one of --keys-file and --direct is needed"),
            (LEAST.replace("json", "xml"), "--bench xml: it is json or sse;events=N;every=MICROSECONDS;batch=B"),
            (LEAST.replace("--seconds 2", "--seconds 0"), "--seconds and --timeout are more than 0"),
            (LEAST.replace("--seconds 2", "--seconds nan"), "--seconds NaN: it is 0 to 86400 seconds"),
            (LEAST.replace("--connections 4", "--connections 0"), "--connections 0: it is 1 to 28000"),
            (format!("{LEAST} --mode open"), "--mode open needs --rate"),
            (format!("{LEAST} --rate 5"), "--rate needs --mode open"),
            (format!("{LEAST} --mode open --rate 0"), "--rate 0: not a rate"),
            (format!("{LEAST} --mode half"), "--mode half: it is closed or open"),
            (format!("{LEAST} --cpu 1,x"), "--cpu 1,x: \"x\" is no process id"),
            (format!("{LEAST} --cpu 0"), "--cpu 0: \"0\" is no process id"),
            (format!("{LEAST} --tick 9"), "--tick and --delay need --mock"),
            (format!("{LEAST} --delay 1"), "--tick and --delay need --mock"),
            (format!("{LEAST} --path v1"), "--path v1: it is a path, encoded"),
            (format!("{LEAST} --timeout"), "--timeout needs a value"),
            (format!("{LEAST} --body-bytes 99999999999"), "--body-bytes 99999999999: at most 67108864"),
            (format!("{LEAST} --warmup 1 --warmup 2"), "unexpected argument --warmup"),
        ];
        for (line, message) in cases {
            assert_eq!(words(&line).unwrap_err(), message, "{line}");
        }
    }
}

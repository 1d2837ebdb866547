//! What is counted in the window, and the report that is made of it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io;

use super::reply::Fault;
use crate::histogram::Histogram;
use crate::sys;

/// Counts and durations since the window began.
pub(super) struct Tally {
    pub(super) requests: u64,
    faults: [u64; Fault::ALL.len()],
    faults_before: u64,
    pub(super) events: u64,
    pub(super) reads: u64,
    pub(super) bytes: u64,
    pub(super) latency: Histogram,
    pub(super) first_byte: Histogram,
    pub(super) event_delay: Histogram,
    pub(super) gap: Histogram,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            requests: 0,
            faults: [0; Fault::ALL.len()],
            faults_before: 0,
            events: 0,
            reads: 0,
            bytes: 0,
            latency: Histogram::new(),
            first_byte: Histogram::new(),
            event_delay: Histogram::new(),
            gap: Histogram::new(),
        }
    }

    /// Forgets the warm-up, but for the number of its faults.
    pub(super) fn begin_window(&mut self) {
        self.faults_before = self.faults.iter().sum();
        self.faults = [0; Fault::ALL.len()];
        (self.requests, self.events, self.reads, self.bytes) = (0, 0, 0, 0);
        for histogram in [&mut self.latency, &mut self.first_byte, &mut self.event_delay, &mut self.gap] {
            histogram.clear();
        }
    }

    /// Counts a fault; the first of its kind is also told on stderr.
    pub(super) fn fault(&mut self, fault: Fault, detail: impl fmt::Display) {
        let before = self.faults[fault as usize];
        self.faults[fault as usize] += 1;
        if before == 0 {
            eprintln!("weir-load: {} fault: {detail}", fault.name());
        }
    }
}

/// The CPU time of some processes at a moment.
pub(super) struct CpuTimes {
    own: u64,
    others: u64,
}

impl CpuTimes {
    pub(super) fn now(pids: &[i32]) -> io::Result<Self> {
        Ok(Self { own: sys::own_cpu(), others: pids.iter().map(|pid| sys::cpu_of(*pid)).sum::<io::Result<u64>>()? })
    }
}

/// What the window's end saw, beside the tally.
pub(super) struct Window {
    pub(super) nanos: u64,
    /// At its start and at its end; the end is missing if a process was gone by then.
    pub(super) cpu: (CpuTimes, Option<CpuTimes>),
    pub(super) own_cpu: u64,
    /// How long the turns took that found something to do; `None` where waiting is part of a turn.
    pub(super) worked: Option<u64>,
    pub(super) pss: BTreeMap<i32, Option<u64>>,
    pub(super) open_streams: usize,
    pub(super) waiting: u64,
}

/// The proportional memory of a process in KiB; `None` if it is gone or not ours to see.
pub(super) fn pss_kib(pid: i32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The report: one JSON object in one line.
pub(super) fn report(tally: &Tally, window: &Window) -> String {
    let cpu = window.cpu.1.as_ref().map(|end| end.others - window.cpu.0.others);
    let busy = window.worked.map(|worked| format!("{:.4}", worked as f64 / window.nanos as f64));
    let busy = busy.as_deref().unwrap_or("null");
    let pairs = |pairs: Vec<String>| format!("{{{}}}", pairs.join(","));
    let pss = pairs(window.pss.iter().map(|(pid, kib)| format!(r#""{pid}":{}"#, or_null(*kib))).collect());
    let errors = Fault::ALL.iter().map(|fault| format!(r#""{}":{}"#, fault.name(), tally.faults[*fault as usize]));
    let errors = pairs(errors.collect());
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        r#"{{"requests":{},"errors":{errors},"warmup_errors":{},"seconds":{:.6},"cpu_ns":{},"own_cpu_ns":{},"busy":{busy},"pss_kib":{pss},"#,
        tally.requests,
        tally.faults_before,
        window.nanos as f64 / 1e9,
        or_null(cpu),
        window.own_cpu - window.cpu.0.own,
    );
    let _ = write!(
        out,
        r#""events":{},"reads":{},"bytes":{},"open_streams":{},"waiting":{},"#,
        tally.events, tally.reads, tally.bytes, window.open_streams, window.waiting
    );
    let _ = write!(
        out,
        r#""latency_us":{},"first_byte_us":{},"event_delay_us":{},"gap_us":{}}}"#,
        tally.latency, tally.first_byte, tally.event_delay, tally.gap
    );
    out
}

fn or_null(number: Option<u64>) -> String {
    number.map_or_else(|| "null".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_json_with_every_figure() {
        let mut tally = Tally::new();
        tally.fault(Fault::Connect, "in the warm-up");
        tally.begin_window();
        tally.fault(Fault::Body, "in the window");
        tally.latency.record(2_000);
        let window = Window {
            nanos: 1_500_000_000,
            cpu: (CpuTimes { own: 1, others: 10 }, Some(CpuTimes { own: 4, others: 15 })),
            own_cpu: 4,
            worked: Some(300_000_000),
            pss: BTreeMap::from([(7, Some(1024)), (8, None)]),
            open_streams: 2,
            waiting: 3,
        };
        let json: serde_json::Value = serde_json::from_str(&report(&tally, &window)).unwrap();
        let none = serde_json::json!({
            "p50": null, "p90": null, "p99": null, "p999": null, "max": null, "mean": null, "count": 0
        });
        let expected = serde_json::json!({
            "requests": 0,
            "errors": {"connect": 0, "status": 0, "framing": 0, "body": 1, "timeout": 0, "closed": 0},
            "warmup_errors": 1, "seconds": 1.5, "cpu_ns": 5, "own_cpu_ns": 3, "busy": 0.2,
            "pss_kib": {"7": 1024, "8": null},
            "events": 0, "reads": 0, "bytes": 0, "open_streams": 2, "waiting": 3,
            "latency_us": {"p50": 2.0, "p90": 2.0, "p99": 2.0, "p999": 2.0, "max": 2.0, "mean": 2.0, "count": 1},
            "first_byte_us": none, "event_delay_us": none, "gap_us": none,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_memory_of_a_process_is_found() {
        assert!(pss_kib(i32::try_from(std::process::id()).unwrap()).unwrap() > 100);
        assert_eq!(pss_kib(i32::MAX), None);
    }
}

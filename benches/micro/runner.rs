//! Runs the cases of a bench: by the clock with criterion, or by instructions with callgrind.
//!
//! Instructions do not depend on what else the machine does: they are what to compare between two
//! versions. It knows nothing of what a case measures.

use std::process::Command;
use std::time::Duration;

use criterion::{Criterion, Throughput};

/// One thing to measure.
pub(crate) struct Case {
    name: String,
    work: Work,
    /// Made only if the case is chosen: some hold a hundred thousand keys.
    make: Box<dyn Fn() -> Box<dyn FnMut()>>,
}

/// What one run of a case works on.
#[derive(Clone, Copy)]
// Each of the two programs that share this file has works of its own kind.
#[allow(dead_code)]
pub(crate) enum Work {
    Bytes(usize),
    Events(usize),
    Calls(usize),
}

impl Work {
    fn amount(self) -> u64 {
        let (Work::Bytes(amount) | Work::Events(amount) | Work::Calls(amount)) = self;
        amount as u64
    }

    fn unit(self) -> &'static str {
        match self {
            Work::Bytes(_) => "byte",
            Work::Events(_) => "event",
            Work::Calls(_) => "call",
        }
    }
}

impl Case {
    pub(crate) fn new<F: FnMut() + 'static>(
        name: impl Into<String>,
        work: Work,
        make: impl Fn() -> F + 'static,
    ) -> Case {
        Case { name: name.into(), work, make: Box::new(move || Box::new(make())) }
    }
}

/// `--instructions [NAME]` counts instructions; everything else is criterion's command line.
pub(crate) fn main(cases: Vec<Case>) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--bench").collect();
    match args[..] {
        ["--instructions", ref name @ ..] => count(&cases, name.first().copied().unwrap_or_default()),
        ["--run", name, times] => {
            let times = times.parse().expect("a number of runs");
            let case = cases.iter().find(|case| case.name == name).expect("a case of this name");
            let mut run = (case.make)();
            for _ in 0..times {
                run();
            }
        }
        _ => time(&cases),
    }
}

fn time(cases: &[Case]) {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for case in cases {
        let mut group = criterion.benchmark_group("weir");
        group.throughput(match case.work {
            Work::Bytes(bytes) => Throughput::Bytes(bytes as u64),
            work => Throughput::Elements(work.amount()),
        });
        let mut run = None;
        group.bench_function(&case.name, |bencher| bencher.iter(run.get_or_insert_with(|| (case.make)())));
        group.finish();
    }
    criterion.final_summary();
}

/// The difference between many runs and few is what runs cost: neither the start nor what a case
/// prepares is in it.
fn count(cases: &[Case], name: &str) {
    const FEW: u64 = 2;
    // So many that a start that differs by some thousand instructions does not show.
    let many = |work: Work| match work {
        Work::Calls(calls) => FEW + (10_000 / calls as u64).max(10),
        Work::Bytes(_) | Work::Events(_) => FEW + 10,
    };
    println!("{:<42} {:>14}", "case", "instructions");
    for case in cases.iter().filter(|case| case.name.contains(name)) {
        let many = many(case.work);
        let instructions = instructions(&case.name, many).saturating_sub(instructions(&case.name, FEW));
        let each = instructions as f64 / ((many - FEW) * case.work.amount()) as f64;
        println!("{:<42} {each:>14.3} per {}", case.name, case.work.unit());
    }
}

fn instructions(name: &str, times: u64) -> u64 {
    let this = std::env::current_exe().expect("a path of this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["--run", name, &times.to_string()])
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .unwrap_or_else(|| panic!("callgrind counted nothing: {said}"))
}

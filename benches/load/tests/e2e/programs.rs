//! The programs as processes, each ended with the test that started it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-load");

/// A mock on a port of its own.
pub(crate) struct Mock {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Mock {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(PROGRAM);
        let mut child =
            command.args(["mock", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().expect("the mock starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening ").expect("it says that it listens").trim().parse().unwrap();
        Self { child, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a load of a target to its end and gives its report.
pub(crate) fn load(target: SocketAddr, arguments: &str) -> serde_json::Value {
    run_load(&format!("--target {target} {arguments}"))
}

/// Runs a load to its end and gives its report, the only line on its stdout.
pub(crate) fn run_load(arguments: &str) -> serde_json::Value {
    let (code, stdout, stderr) = exit_of(&format!("load {arguments}"));
    assert_eq!(code, Some(0), "{arguments}: {stderr}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).expect("the report is JSON")
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs the program to its end: its code, its stdout and its stderr.
pub(crate) fn exit_of(line: &str) -> (Option<i32>, String, String) {
    let output = Command::new(PROGRAM).args(line.split_whitespace()).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

//! The process that is to take this one's place: its program, its check and its start.
//!
//! It is a child of this one, and so has its user, its limits, its cgroup and its environment: what systemd or an
//! operator gave to this process, the next one has too.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a child.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is kept of what a check says: some hundred mistakes. As JSON it may be six times as long, and must fit
/// into a line.
const MAX_SAID: u64 = 8 * 1024;

/// What systemd said to this process and to no other.
const FOR_ONE_PROCESS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How a successor is started.
#[derive(Clone, Debug)]
pub(crate) struct Successor {
    /// This process's own program, as it was when it was started.
    pub(crate) own: PathBuf,
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Where what it says for a moment is kept.
    pub(crate) scratch: PathBuf,
}

impl Successor {
    /// One of the same program and the same configuration file.
    ///
    /// # Errors
    /// When it cannot be told where the program is.
    pub(crate) fn of_this_process(config: &Path, scratch: &Path) -> io::Result<Self> {
        // The name that it was called by outlives the file that it stood for when the program is replaced.
        let called = std::env::args_os().next().map(PathBuf::from).filter(|path| path.components().count() > 1);
        let own = match called {
            Some(path) => std::path::absolute(path)?,
            None => std::env::current_exe()?,
        };
        Ok(Self { own, config: config.to_owned(), scratch: scratch.to_owned() })
    }

    /// Has `binary` check the configuration.
    ///
    /// # Errors
    /// What it says against it, or that it says nothing in time.
    pub(super) fn check(&self, binary: &Path, deadline: Instant) -> Result<(), String> {
        let shown = binary.display();
        let mut said = tempfile::tempfile_in(&self.scratch).map_err(|e| format!("no room for a check: {e}"))?;
        let both = said.try_clone().and_then(|out| Ok((out, said.try_clone()?)));
        let (out, err) = both.map_err(|e| format!("no room for a check: {e}"))?;
        let mut command = self.command(binary, "check");
        let started = command.stdout(out).stderr(err).spawn();
        let mut child = started.map_err(|e| format!("{shown} cannot be started: {e}"))?;
        match wait(&mut child, deadline) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => {
                let said = read_back(&mut said);
                Err(format!("{shown} does not take {}: {status}\n{}", self.config.display(), said.trim_end()))
            }
            Ok(None) => {
                end(&mut child);
                Err(format!("{shown} did not check the configuration in time"))
            }
            Err(e) => Err(format!("{shown}: {e}")),
        }
    }

    /// Starts it.
    pub(super) fn start(&self, binary: &Path) -> io::Result<Child> {
        self.command(binary, "run").arg("--upgrade").spawn()
    }

    fn command(&self, binary: &Path, subcommand: &str) -> Command {
        let mut command = Command::new(binary);
        command.arg(subcommand).arg("-c").arg(&self.config).stdin(Stdio::null());
        for name in FOR_ONE_PROCESS {
            command.env_remove(name);
        }
        command
    }
}

/// Kills it, and waits until it is gone.
pub(super) fn end(child: &mut Child) {
    if let Err(e) = child.kill().and_then(|()| child.wait()) {
        log::warn!("the process {} could not be ended: {e}", child.id());
    }
}

/// `None`: it still runs at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn read_back(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| (&*file).take(MAX_SAID).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => format!("what it said cannot be read: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(home: &Path, text: &str) -> PathBuf {
        let path = home.join("program");
        std::fs::write(&path, format!("#!/bin/sh\n[ $# = 0 ] && exit 0\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // A process that another test is just starting may still hold it open for writing.
        while Command::new(&path).status().is_err() {
            std::thread::sleep(LOOK_EVERY);
        }
        path
    }

    fn successor(home: &Path) -> Successor {
        Successor { own: "/nowhere".into(), config: home.join("weir.yaml"), scratch: home.to_owned() }
    }

    #[test]
    fn a_check_is_what_the_program_says_of_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        let check = |text: &str, time: Duration| {
            successor(home.path()).check(&script(home.path(), text), Instant::now() + time)
        };
        let long = Duration::from_secs(20);
        assert_eq!(check(&format!("[ \"$*\" = \"check -c {}/weir.yaml\" ]", home.path().display()), long), Ok(()));
        let wrong = check("echo 'weir.yaml:3:1: no'; exit 1", long).unwrap_err();
        assert!(wrong.ends_with("weir.yaml: exit status: 1\nweir.yaml:3:1: no"), "{wrong}");
        let slow = check("exec sleep 60", Duration::from_millis(50)).unwrap_err();
        assert!(slow.ends_with("did not check the configuration in time"), "{slow}");
        let none = successor(home.path()).check(Path::new("/nowhere/weir"), Instant::now() + long).unwrap_err();
        assert!(none.starts_with("/nowhere/weir cannot be started: "), "{none}");
    }
}

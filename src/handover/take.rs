//! The side of the process that comes, and of the command that asks for it.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sockets::Inherited;

use super::wire::{Ask, Line, Say};
use super::{SOCKET, VERSION};

/// How long the process that runs may take to answer: it does nothing else meanwhile.
const ANSWER: Duration = Duration::from_secs(10);

/// Why there is no upgrade.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens: there is no socket, or its process is gone.
    #[error("no gateway runs with {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket may not be opened, or the conversation broke off.
    #[error("{}: {source}", .socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The gateway that runs says no.
    #[error("{0}")]
    Refused(String),
}

/// What a process has taken over that is not yet the one that serves.
#[derive(Debug)]
pub(crate) struct Taken {
    line: Line,
    socket: PathBuf,
}

impl Taken {
    /// Takes the sockets of the gateway that runs with `data_dir`. It goes on serving.
    pub(crate) fn from(data_dir: &Path) -> Result<(Self, Inherited), AskError> {
        let socket = data_dir.join(SOCKET);
        let failed = |source| AskError::Io { socket: socket.clone(), source };
        let mut line = connect(&socket)?;
        line.send(&Ask::Take { version: VERSION }).map_err(failed)?;
        let names = match line.receive(Instant::now() + ANSWER).map_err(failed)? {
            Say::Sockets { names } => names,
            Say::Failed { why } => return Err(AskError::Refused(why)),
            other => return Err(failed(unexpected(&other))),
        };
        let sockets = line.take_received();
        if sockets.len() != names.len() {
            let source = io::Error::new(ErrorKind::InvalidData, "not as many sockets as names");
            return Err(failed(source));
        }
        let inherited = Inherited::new(names.into_iter().zip(sockets));
        Ok((Self { line, socket }, inherited))
    }

    /// Says that this process serves. When this returns, the other one does not accept any more.
    pub(crate) fn serving(mut self) -> Result<(), AskError> {
        let socket = self.socket;
        let failed = |source| AskError::Io { socket: socket.clone(), source };
        self.line.send(&Say::Serving).map_err(failed)?;
        match self.line.receive(Instant::now() + ANSWER).map_err(failed)? {
            Say::Leaving => Ok(()),
            Say::Failed { why } => Err(AskError::Refused(why)),
            other => Err(failed(unexpected(&other))),
        }
    }

    /// Says why this process will not serve.
    pub(crate) fn failed(mut self, why: String) {
        // If it does not arrive, the end of this process says it too.
        let _ = self.line.send(&Say::Failed { why });
    }
}

/// Asks the gateway that runs with `data_dir` for an upgrade to `binary`; `tell` is told how far it is. Gives the
/// number of the process that serves now.
pub(crate) fn ask_for_upgrade(
    data_dir: &Path,
    binary: PathBuf,
    within: Duration,
    mut tell: impl FnMut(&str),
) -> Result<u32, AskError> {
    let socket = data_dir.join(SOCKET);
    let failed = |source| AskError::Io { socket: socket.clone(), source };
    let mut line = connect(&socket)?;
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    line.send(&Ask::Upgrade { binary, within_ms }).map_err(failed)?;
    let deadline = Instant::now() + within + ANSWER;
    loop {
        match line.receive(deadline).map_err(failed)? {
            Say::Step { what } => tell(&what),
            Say::Done { pid } => return Ok(pid),
            Say::Failed { why } => return Err(AskError::Refused(why)),
            other => return Err(failed(unexpected(&other))),
        }
    }
}

fn connect(socket: &Path) -> Result<Line, AskError> {
    let connected = UnixStream::connect(socket).and_then(Line::new);
    connected.map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NotRunning(socket.to_owned()),
        _ => AskError::Io { socket: socket.to_owned(), source },
    })
}

fn unexpected(said: &Say) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the gateway said {said:?}, which is no answer"))
}

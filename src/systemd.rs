//! What systemd is told and gives: readiness, the main process, the watchdog, sockets.
//!
//! Owns its protocol: datagrams to the socket that the environment names (sd_notify(3)), and descriptors from
//! number 3 on (sd_listen_fds(3)). Without systemd all of it does nothing. Refuses to know what is ready.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{getsockname, sockopt};

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// Descriptors that are looked at: far more than a gateway has listeners.
const MAX_SOCKETS: RawFd = 128;

/// Tells systemd how the service is doing, if systemd wants to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notify(Option<Arc<Listener>>);

#[derive(Debug)]
struct Listener {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notify {
    /// By what `environment` says.
    pub(crate) fn new(environment: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let Some(name) = environment("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self(None) };
        let made = address(&name).and_then(|address| Ok(Listener { socket: UnixDatagram::unbound()?, address }));
        match made {
            Ok(listener) => Self(Some(Arc::new(listener))),
            Err(e) => {
                log::warn!("systemd cannot be told anything at {}: {e}", name.display());
                Self(None)
            }
        }
    }

    /// The service is up, with this process as its main one.
    pub(crate) fn ready(&self) {
        self.send(&format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
    }

    /// It is going down.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=waiting for open streams");
    }

    /// From now on the process `pid` is the main one. Only the one before it may say so.
    pub(crate) fn succeeded_by(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    /// It is alive.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, state: &str) {
        if let Some(listener) = &self.0
            && let Err(e) = listener.socket.send_to_addr(state.as_bytes(), &listener.address)
        {
            log::warn!("systemd could not be told {state:?}: {e}");
        }
    }
}

/// A path, or a name in the abstract name space behind an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
}

/// How often systemd wants a sign of life, if it watches this process.
pub(crate) fn watchdog(environment: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> Option<Duration> {
    let number = |name: &str| environment(name)?.to_str()?.parse::<u64>().ok();
    let is_other = environment("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(std::process::id().into());
    let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && !is_other)?;
    Some(Duration::from_micros(micros))
}

/// The listening TCP sockets that were handed to this process.
pub(crate) fn listeners(environment: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> Vec<TcpListener> {
    let number = |name: &str| environment(name)?.to_str()?.parse::<RawFd>().ok();
    if number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok()) != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MAX_SOCKETS);
    (FIRST..FIRST + count).filter_map(listener).collect()
}

fn listener(fd: RawFd) -> Option<TcpListener> {
    // SAFETY: it is only asked whether there is such a descriptor; the kernel says so if there is none.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let taken = is_listener(borrowed).and_then(|is_listener| {
        if is_listener {
            // Not for the processes that this one starts.
            fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
        }
        Ok(is_listener)
    });
    match taken {
        // SAFETY: systemd gave the descriptor to this process to own, and each is looked at once, at the start.
        Ok(true) => Some(TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) })),
        Ok(false) => {
            log::warn!("systemd handed over descriptor {fd}, which is no listening TCP socket; it is left alone");
            None
        }
        Err(e) => {
            log::warn!("systemd handed over descriptor {fd}, which cannot be used: {e}");
            None
        }
    }
}

fn is_listener(fd: impl AsFd) -> io::Result<bool> {
    let is_tcp = std::net::SocketAddr::try_from(getsockname(&fd)?).is_ok();
    Ok(is_tcp && sockopt::socket_acceptconn(&fd)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn said(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let got = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..got]).into_owned()
    }

    fn with(name: &'static str, value: impl Into<OsString>) -> impl Fn(&str) -> Option<OsString> {
        let value = value.into();
        move |asked| (asked == name).then(|| value.clone())
    }

    #[test]
    fn systemd_is_told_by_path_and_by_abstract_name() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("weir-test-{}", std::process::id());
        let in_space = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, value) in [(at_path, path.into_os_string()), (in_space, format!("@{name}").into())] {
            let notify = Notify::new(&with("NOTIFY_SOCKET", value));
            notify.ready();
            let pid = std::process::id();
            assert_eq!(said(&socket), format!("READY=1\nMAINPID={pid}\nSTATUS=serving"));
            notify.succeeded_by(4711);
            assert_eq!(said(&socket), "MAINPID=4711");
            notify.alive();
            assert_eq!(said(&socket), "WATCHDOG=1");
            notify.stopping();
            assert!(said(&socket).starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn without_systemd_nothing_is_said() {
        for value in ["", "vsock:2:1234"] {
            assert!(Notify::new(&with("NOTIFY_SOCKET", value)).0.is_none(), "{value:?}");
        }
        assert!(Notify::new(&|_| None).0.is_none());
        Notify::default().ready();
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_fed() {
        let watch = |pid: Option<u32>, micros: &str| {
            let (pid, micros) = (pid.map(|pid| pid.to_string()), micros.to_owned());
            watchdog(&move |name| match name {
                "WATCHDOG_PID" => pid.clone().map(OsString::from),
                "WATCHDOG_USEC" => Some(micros.clone().into()),
                _ => None,
            })
        };
        let own = std::process::id();
        assert_eq!(watch(Some(own), "30000000"), Some(Duration::from_secs(30)));
        assert_eq!(
            watch(None, "30000000"),
            Some(Duration::from_secs(30)),
            "one that took over has no number of its own"
        );
        assert_eq!((watch(Some(own + 1), "30000000"), watch(Some(own), "0"), watch(None, "soon")), (None, None, None));
    }

    #[test]
    fn only_what_listens_is_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(is_listener(&listener).unwrap());
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!is_listener(&stream).unwrap());
        assert!(!is_listener(UnixDatagram::unbound().unwrap()).unwrap());
        assert_eq!(listeners(&with("LISTEN_PID", "1")).len(), 0, "they are for process 1");
    }
}

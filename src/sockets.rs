//! The sockets on which a gateway listens: open before it serves, and handed to whoever serves after it.
//!
//! Owns all of them, by name, wherever they come from: made here, inherited from systemd, or taken over from the
//! process before this one. Refuses to know who accepts: each user gets a descriptor of its own.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora_core::server::{Fds, ListenFds};
use rustix::net::sockopt;

use crate::admin;
use crate::app::StartError;
use crate::config::Config;
use crate::handover;
use crate::socket_file::{self, Socket};

/// Sockets that were open before this process, by the names that [`Sockets`] gives them.
#[derive(Debug, Default)]
pub(crate) struct Inherited(HashMap<String, OwnedFd>);

/// Where clients come in.
#[derive(Debug)]
pub(crate) struct Clients(Mutex<Vec<(SocketAddr, TcpListener)>>);

/// All sockets of a gateway.
#[derive(Debug)]
pub(crate) struct Sockets {
    clients: Arc<Clients>,
    private: Mutex<Option<Private>>,
}

/// Those that are not for clients.
#[derive(Debug)]
struct Private {
    admin_name: String,
    admin: TcpListener,
    admin_file: Socket,
    upgrade_file: Socket,
}

impl Inherited {
    /// Sockets with the names that another process has for them.
    pub(crate) fn new(named: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        Self(named.into_iter().collect())
    }

    /// Sockets whose addresses say what they are for: each belongs to the listener of `config` with the same
    /// address. Gives those that belong to none.
    pub(crate) fn by_address(open: impl IntoIterator<Item = TcpListener>, config: &Config) -> (Self, Vec<SocketAddr>) {
        let (mut named, mut strangers) = (HashMap::new(), Vec::new());
        for listener in open {
            let Ok(bound) = listener.local_addr() else { continue };
            let of_client = config.listen.iter().find(|listen| is_same(listen.address, bound));
            let name = match of_client {
                Some(listen) => client_name(listen.address),
                None if is_same(config.admin.address, bound) => admin_name(config.admin.address),
                None => {
                    strangers.push(bound);
                    continue;
                }
            };
            named.insert(name, listener.into());
        }
        (Self(named), strangers)
    }

    fn tcp(&mut self, name: &str) -> io::Result<Option<TcpListener>> {
        self.listening(name).map(|fd| fd.map(TcpListener::from))
    }

    fn file(&mut self, name: &str, path: &Path) -> io::Result<Option<Socket>> {
        let fd = self.listening(name)?;
        fd.map(|fd| Socket::inherited(UnixListener::from(fd), path)).transpose()
    }

    fn listening(&mut self, name: &str) -> io::Result<Option<OwnedFd>> {
        let Some(fd) = self.0.remove(name) else { return Ok(None) };
        if !sockopt::socket_acceptconn(fd.as_fd())? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name}: what was inherited does not listen"),
            ));
        }
        Ok(Some(fd))
    }
}

impl Clients {
    /// Opens the addresses at which `config` listens, unless they are inherited.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub(crate) fn open(config: &Config, inherited: &mut Inherited) -> Result<Self, StartError> {
        let mut open = Vec::with_capacity(config.listen.len());
        for listen in &config.listen {
            let address = listen.address;
            let failed = |e: io::Error| StartError::Listen { address, message: e.to_string() };
            let listener = match inherited.tcp(&client_name(address)).map_err(failed)? {
                Some(listener) => listener,
                None => TcpListener::bind(address).map_err(failed)?,
            };
            // Pingora takes it for granted.
            listener.set_nonblocking(true).map_err(failed)?;
            open.push((address, listener));
        }
        Ok(Self(Mutex::new(open)))
    }

    /// The table from which Pingora and [`crate::front`] take the sockets of their addresses. Each may be taken
    /// once.
    pub(crate) fn table(&self) -> io::Result<ListenFds> {
        let mut table = Fds::new();
        for (address, listener) in self.lock().iter() {
            table.add(client_name(*address), listener.try_clone()?.into_raw_fd());
        }
        Ok(ListenFds::new(table.into()))
    }

    /// Closes them: whoever connects now is refused, unless another process listens on the same sockets.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(SocketAddr, TcpListener)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sockets {
    /// Opens all sockets of `config` that are not inherited. What is inherited and not wanted is closed.
    ///
    /// # Errors
    /// An address or a socket file that cannot be had.
    pub(crate) fn open(config: &Config, mut inherited: Inherited) -> Result<Self, StartError> {
        let clients = Arc::new(Clients::open(config, &mut inherited)?);
        let address = config.admin.address;
        let private = Private::open(config, &mut inherited).map_err(|source| StartError::Admin { address, source })?;
        Ok(Self { clients, private: Mutex::new(Some(private)) })
    }

    /// Those of clients.
    pub(crate) fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Those of the admin listener.
    pub(crate) fn admin(&self) -> io::Result<admin::Listeners> {
        self.with(|private| {
            let socket = Socket::lent(private.admin_file.listener()?);
            Ok(admin::Listeners { network: private.admin.try_clone()?, socket: Some(socket) })
        })
    }

    /// The one over which sockets are handed over.
    pub(crate) fn upgrade(&self) -> io::Result<UnixListener> {
        self.with(|private| private.upgrade_file.listener())
    }

    /// All of them, for another process.
    pub(crate) fn all(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let mut all = Vec::new();
        for (address, listener) in self.clients.lock().iter() {
            all.push((client_name(*address), listener.try_clone()?.into()));
        }
        self.with(|private| {
            all.push((private.admin_name.clone(), private.admin.try_clone()?.into()));
            all.push((admin::SOCKET.to_owned(), private.admin_file.listener()?.into()));
            all.push((handover::SOCKET.to_owned(), private.upgrade_file.listener()?.into()));
            Ok(all)
        })
    }

    /// Gives them up to the process that has them now.
    pub(crate) fn leave(&self) {
        self.clients.close();
        if let Some(mut private) = self.lock().take() {
            private.admin_file.leave_file();
            private.upgrade_file.leave_file();
        }
    }

    fn with<T>(&self, give: impl FnOnce(&Private) -> io::Result<T>) -> io::Result<T> {
        match &*self.lock() {
            Some(private) => give(private),
            None => Err(io::Error::new(io::ErrorKind::NotConnected, "another process has the sockets now")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Private>> {
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Private {
    fn open(config: &Config, inherited: &mut Inherited) -> io::Result<Self> {
        let admin_name = admin_name(config.admin.address);
        let admin = match inherited.tcp(&admin_name)? {
            Some(listener) => listener,
            None => TcpListener::bind(config.admin.address)?,
        };
        let mut file = |name: &str| {
            let path = config.data_dir.join(name);
            match inherited.file(name, &path)? {
                Some(socket) => Ok(socket),
                None => socket_file::bind(&path),
            }
        };
        let (admin_file, upgrade_file) = (file(admin::SOCKET)?, file(handover::SOCKET)?);
        Ok(Self { admin_name, admin, admin_file, upgrade_file })
    }
}

/// As Pingora's table has it.
fn client_name(address: SocketAddr) -> String {
    address.to_string()
}

fn admin_name(address: SocketAddr) -> String {
    format!("admin {address}")
}

/// Whether a socket that is bound to `bound` is what was meant by `wanted`. systemd binds a bare port to the
/// IPv6 wildcard, which takes IPv4 along.
fn is_same(wanted: SocketAddr, bound: SocketAddr) -> bool {
    wanted == bound || wanted.port() == bound.port() && wanted.ip().is_unspecified() && bound.ip().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(home: &Path, listen: &str, admin: &str) -> Config {
        let text = format!(
            "data_dir: {}\nlisten: [{{ address: '{listen}' }}]\nadmin: {{ address: '{admin}' }}\nchannels: []\n",
            home.display()
        );
        crate::config::parse(&text, Path::new("weir.yaml"), &|_| None).expect("it is right")
    }

    fn bound() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").expect("a port")
    }

    #[test]
    fn what_is_handed_over_is_opened_again_by_the_next_and_its_files_stay() {
        let home = tempfile::tempdir().expect("a directory");
        let (client, admin) = (bound(), bound());
        let [listen, door] = [&client, &admin].map(|listener| listener.local_addr().expect("bound").to_string());
        drop((client, admin));
        let config = config(home.path(), &listen, &door);
        let old = Sockets::open(&config, Inherited::default()).expect("all is free");
        assert!(matches!(Sockets::open(&config, Inherited::default()), Err(StartError::Listen { .. })));
        let new = Sockets::open(&config, Inherited::new(old.all().expect("descriptors"))).expect("all is inherited");
        old.leave();
        assert!(old.admin().is_err() && old.upgrade().is_err());
        std::net::TcpStream::connect(&listen).expect("the new one listens");
        std::net::TcpStream::connect(&door).expect("the new one listens");
        for file in [admin::SOCKET, handover::SOCKET] {
            std::os::unix::net::UnixStream::connect(home.path().join(file)).expect("the new one listens");
        }
        drop(new);
        assert!(!home.path().join(admin::SOCKET).exists(), "the last one cleans up");
        assert!(std::net::TcpStream::connect(&listen).is_err());
    }

    #[test]
    fn a_socket_of_systemd_belongs_to_the_listener_with_its_address() {
        let home = tempfile::tempdir().expect("a directory");
        let (client, stranger) = (bound(), bound());
        let address = client.local_addr().expect("bound");
        let config = config(home.path(), &address.to_string(), "127.0.0.1:0");
        let unknown = stranger.local_addr().expect("bound");
        let (mut inherited, strangers) = Inherited::by_address([client, stranger], &config);
        assert_eq!(strangers, [unknown]);
        let clients = Clients::open(&config, &mut inherited).expect("it is open already");
        assert_eq!(clients.lock()[0].1.local_addr().expect("bound"), address);
        clients.close();
        assert!(std::net::TcpStream::connect(address).is_err(), "a closed one refuses");
    }

    #[test]
    fn a_bare_port_of_systemd_is_every_address() {
        let same = |wanted: &str, bound: &str| is_same(wanted.parse().expect("one"), bound.parse().expect("one"));
        assert!(same("0.0.0.0:443", "[::]:443") && same("127.0.0.1:80", "127.0.0.1:80"));
        assert!(!same("0.0.0.0:443", "[::]:444") && !same("127.0.0.1:443", "[::]:443"));
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let listener = bound();
        let address = listener.local_addr().expect("bound");
        let stream = std::net::TcpStream::connect(address).expect("it listens");
        let config = config(home.path(), &address.to_string(), "127.0.0.1:0");
        let mut inherited = Inherited::new([(address.to_string(), OwnedFd::from(stream))]);
        assert!(matches!(Clients::open(&config, &mut inherited), Err(StartError::Listen { .. })));
    }
}

//! The system calls that std lacks: epoll, a connect that does not wait, clocks, limits.
//!
//! The only file with `unsafe`. It knows no protocol.

#![expect(clippy::cast_possible_truncation, reason = "constants of the system that fit their fields; slots are few")]
#![expect(unsafe_code, reason = "each call is a system call with arguments that are valid for it")]

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// How many ready sockets one wait reports; more are reported by the next.
const MAX_READY: usize = 512;

/// The kernel's limit; a clock's id has no room for more than 29 bits of it.
const MAX_PID: i32 = 1 << 22;

const NANOS: u64 = 1_000_000_000;

/// Edge-triggered readiness of sockets, each known by a token.
pub(crate) struct Epoll(OwnedFd);

/// What one wait reported.
pub(crate) struct ReadySet {
    events: Vec<libc::epoll_event>,
    len: usize,
}

/// One socket that became ready.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side has closed or broken the connection; bytes may still stand before its end.
    pub(crate) hung_up: bool,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointer, and its descriptor is owned by nobody else.
        unsafe { Ok(Self(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?))) }
    }

    /// Reports every change of a stream's readiness from now on, and its present one.
    pub(crate) fn add(&self, stream: &impl AsRawFd, token: u64) -> io::Result<()> {
        self.control(
            libc::EPOLL_CTL_ADD,
            stream,
            token,
            libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
        )
    }

    /// Reports a stream's present readiness once more, behind that of the others.
    pub(crate) fn again(&self, stream: &impl AsRawFd, token: u64) -> io::Result<()> {
        self.control(
            libc::EPOLL_CTL_MOD,
            stream,
            token,
            libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
        )
    }

    /// Reports a listener for as long as a connection waits.
    pub(crate) fn add_listener(&self, listener: &impl AsRawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, listener, token, libc::EPOLLIN)
    }

    fn control(&self, operation: i32, fd: &impl AsRawFd, token: u64, interest: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.cast_unsigned(), u64: token };
        // SAFETY: the event outlives the call.
        unsafe { check(libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event)) }.map(drop)
    }

    /// Waits until something is ready or `nanos` have passed; `None` waits for ever.
    pub(crate) fn wait(&self, ready: &mut ReadySet, nanos: Option<u64>) -> io::Result<()> {
        let timeout = nanos.map(timespec);
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let no_mask = std::ptr::null::<libc::sigset_t>();
        let room = libc::c_long::from(i32::try_from(ready.events.len()).unwrap_or(i32::MAX));
        // The wrapper needs a newer libc than the call needs a kernel (5.11).
        // SAFETY: the kernel writes at most `room` events into the vector; the rest are constants or null.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                libc::c_long::from(self.0.as_raw_fd()),
                ready.events.as_mut_ptr(),
                room,
                timeout,
                no_mask,
                0 as libc::c_long,
            )
        };
        ready.len = 0;
        if count >= 0 {
            ready.len = usize::try_from(count).unwrap_or(0);
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        }
    }
}

impl ReadySet {
    pub(crate) fn new() -> Self {
        Self { events: vec![libc::epoll_event { events: 0, u64: 0 }; MAX_READY], len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, index: usize) -> Ready {
        let libc::epoll_event { events, u64: token } = self.events[index];
        let any = |mask: i32| events & mask.cast_unsigned() != 0;
        let hung_up = any(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
        Ready { token, readable: any(libc::EPOLLIN) || hung_up, writable: any(libc::EPOLLOUT), hung_up }
    }
}

/// A token for a slot of a table, which tells a connection from those that had the slot before it.
pub(crate) fn token(slot: usize, generation: u32) -> u64 {
    (u64::from(generation) << 32) | (slot as u64 & 0xffff_ffff)
}

/// The slot and the generation of a token.
pub(crate) fn slot_of(token: u64) -> (usize, u32) {
    ((token & 0xffff_ffff) as usize, (token >> 32) as u32)
}

/// Begins a connection; writing fails with `WouldBlock` until it stands.
pub(crate) fn connect(target: SocketAddrV4) -> io::Result<TcpStream> {
    // SAFETY: the call takes no pointer, and its descriptor is owned by nobody else.
    let stream = unsafe {
        let flags = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        TcpStream::from_raw_fd(check(libc::socket(libc::AF_INET, flags, 0))?)
    };
    stream.set_nodelay(true)?;
    without_pacing(&stream)?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: target.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(target.ip().octets()) },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the address outlives the call and has the length that is given.
    let begun = unsafe { check(libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length)) };
    match begun {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

/// Takes the plain congestion control of TCP. One that paces what it sends, as BBR does, holds bytes back on a
/// loopback, where there is no congestion: a stall would be its, and not the measured program's.
pub(crate) fn without_pacing(socket: &impl AsRawFd) -> io::Result<()> {
    const NAME: &[u8] = b"reno";
    let (name, length) = (NAME.as_ptr().cast(), NAME.len() as libc::socklen_t);
    // SAFETY: the name outlives the call and has the length that is given.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, name, length) };
    check(set).map(drop)
}

/// `CLOCK_MONOTONIC`: one clock for all processes of a host.
pub(crate) fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// The CPU time of this process.
pub(crate) fn own_cpu() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// The CPU time, user and system, of all threads of a process; an error if there is none of this id.
pub(crate) fn cpu_of(pid: i32) -> io::Result<u64> {
    if !(1..=MAX_PID).contains(&pid) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // The id of another process's clock, as `clock_getcpuclockid` makes it: CPUCLOCK_SCHED is 2.
    clock((!pid << 3) | 2)
}

fn clock(id: libc::clockid_t) -> io::Result<u64> {
    let mut time = timespec(0);
    // SAFETY: the kernel writes one timespec, which outlives the call.
    unsafe { check(libc::clock_gettime(id, &raw mut time)) }?;
    Ok(time.tv_sec.cast_unsigned() * NANOS + time.tv_nsec.cast_unsigned())
}

fn timespec(nanos: u64) -> libc::timespec {
    libc::timespec { tv_sec: (nanos / NANOS).cast_signed(), tv_nsec: (nanos % NANOS).cast_signed() }
}

/// Makes timed waits end when they should (the default is up to 50 µs late) and opens as many files as allowed.
pub(crate) fn prepare_process() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit outlives both calls; prctl takes numbers only.
    unsafe {
        check(libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong))?;
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
    }
    Ok(())
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_slot_and_generation_back() {
        assert_eq!(slot_of(token(70_000, u32::MAX)), (70_000, u32::MAX));
    }

    #[test]
    fn the_clock_of_a_process_is_found_by_its_id() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let before = own_cpu();
        let by_id = cpu_of(pid).unwrap();
        assert!((before..=own_cpu()).contains(&by_id), "{by_id}");
        for nobody in [i32::MIN, 0, MAX_PID, i32::MAX] {
            assert_eq!(cpu_of(nobody).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{nobody}");
        }
    }
}

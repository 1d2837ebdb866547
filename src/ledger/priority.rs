//! How far threads that only keep figures and records stand back behind those that serve.

/// nice(2): near enough that a machine without a free core still folds.
const NICENESS: i32 = 10;
/// For how long it may keep the core, in nanoseconds, when a worker wakes: the least that Linux allows
/// (6.12 and later; before, the niceness alone counts).
const SLICE: u64 = 100_000;

/// The first version of the kernel's `struct sched_attr` (sched_setattr(2)).
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Lets the threads that serve go first: figures may be late, answers may not. Threads that this one makes
/// do the same. Where it is forbidden, the usual order stays.
pub(crate) fn stand_back() {
    let attributes = Attributes {
        size: u32::try_from(size_of::<Attributes>()).unwrap_or_default(),
        policy: libc::SCHED_OTHER.unsigned_abs(),
        flags: 0,
        nice: NICENESS,
        priority: 0,
        runtime: SLICE,
        deadline: 0,
        period: 0,
    };
    // SAFETY: 0 is this thread, and the kernel reads as much of the structure as its size says.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if refused {
        log::debug!("a thread of the background runs at the usual priority: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_and_those_it_makes_stand_back() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        std::thread::spawn(move || {
            stand_back();
            assert_eq!(niceness(), NICENESS);
            assert_eq!(std::thread::spawn(niceness).join().unwrap(), NICENESS);
        })
        .join()
        .unwrap();
        assert_eq!(niceness(), before, "other threads stay where they are");
    }
}

//! A piece of a segment in memory: a record is put into the page cache by a copy, without a call to the
//! kernel, and survives kill -9 there as it would after `write`.
//!
//! What a disk refuses is not said by a result then, but by the signal SIGBUS (mmap(2)): on a file
//! system that has become read-only, or beyond the end of a file that was cut. Owns the handler that
//! makes an error of it. Refuses to know what is copied.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// How much of a segment is in memory at a time: about a thousand records. A whole segment would count
/// as 16 MiB of the process's memory.
pub(super) const WINDOW: usize = 256 << 10;
/// Windows at the same time: one a worker thread. Who gets none writes by calls.
const MAX_WINDOWS: usize = 256;
/// The least that can be mapped anywhere; larger pages are multiples of it.
const PAGE: usize = 4096;
/// What memory is fetched in.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// The windows that are open, for the handler: it must not wait for a lock.
static OPEN: [Slot; MAX_WINDOWS] = [const { Slot::new() }; MAX_WINDOWS];

/// What became of SIGBUS before.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

struct Slot {
    /// Where the window begins; 0 without one, `CLAIMED` while one is made.
    start: AtomicUsize,
    /// Something was copied that the file did not take.
    failed: AtomicBool,
}

const CLAIMED: usize = usize::MAX;

/// [`WINDOW`] bytes of a file, from a multiple of the page size on.
pub(crate) struct Window {
    start: *mut c_void,
    at: u64,
    slot: &'static Slot,
}

// SAFETY: the memory belongs to the window alone, and is written through `&mut self`.
unsafe impl Send for Window {}

impl Slot {
    const fn new() -> Self {
        Self { start: AtomicUsize::new(0), failed: AtomicBool::new(false) }
    }
}

impl Window {
    /// The window of `file` in which `at` lies. `None` if its space is not reserved, because a full disk
    /// would end the process, or if it cannot be had.
    pub(crate) fn open(file: &File, at: u64) -> Option<Self> {
        let meta = file.metadata().ok()?;
        if meta.blocks() * 512 < meta.len() || !is_guarded() {
            return None;
        }
        let claim = |slot: &&Slot| slot.start.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let slot = OPEN.iter().find(claim)?;
        let at = at - at % PAGE as u64;
        // SAFETY: the kernel chooses the place, so nothing of ours is covered.
        let mapped =
            unsafe { mmap(ptr::null_mut(), WINDOW, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, at) };
        let Ok(start) = mapped else {
            slot.start.store(0, Ordering::Release);
            return None;
        };
        slot.failed.store(false, Ordering::Release);
        slot.start.store(start as usize, Ordering::Release);
        Some(Self { start, at, slot })
    }

    /// Whether `len` bytes at `at` are in it.
    pub(crate) fn covers(&self, at: u64, len: usize) -> bool {
        at >= self.at && at + len as u64 <= self.at + WINDOW as u64
    }

    /// Copies `bytes` to `at`.
    ///
    /// # Errors
    /// When the file did not take them all. Nothing more is to be entrusted to the window.
    ///
    /// # Panics
    /// Unless the window [covers](Self::covers) them.
    pub(crate) fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        assert!(self.covers(at, bytes.len()), "the window was asked for");
        let offset = usize::try_from(at - self.at).expect("it is below the window's size");
        // SAFETY: `bytes` fit in the mapping, which nobody else writes; pages that the kernel cannot give
        // are replaced by the handler.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.cast::<u8>().add(offset), bytes.len()) };
        self.expect(offset + bytes.len(), bytes.len());
        if self.slot.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("the file system does not take what was mapped"));
        }
        Ok(())
    }

    /// Has the processor fetch the place of the next record, which is about as long as the last one: the end
    /// of a write, where a lock is given back, would wait for these lines of memory.
    #[inline]
    fn expect(&self, offset: usize, len: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in (offset..WINDOW.min(offset + len)).step_by(CACHE_LINE) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the place lies within the mapping; a fetch changes nothing and faults nowhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.start.cast::<i8>().add(line)) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (offset, len);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and ends with its owner.
        if let Err(e) = unsafe { munmap(self.start, WINDOW) } {
            log::error!("ledger: a window of the journal stays in memory: {e}");
        }
        self.slot.start.store(0, Ordering::Release);
    }
}

/// Sees to it, once, that SIGBUS is handled.
fn is_guarded() -> bool {
    BEFORE
        .get_or_init(|| {
            // SAFETY: both structures are plain data for which zeros are valid; the handler has the
            // signature that SA_SIGINFO asks for and does only what a handler may.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let mut before: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_bus_error as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&raw mut action.sa_mask);
                (libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before) == 0).then_some(before)
            }
        })
        .is_some()
}

/// A page of a window that cannot be written is replaced by one that leads nowhere, and the window is
/// marked; the copy then goes on. Any other fault is left to whoever handled it before.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel gives a valid `info` with the address for SIGBUS; mmap, sigaction and errno are
    // all that is used, and neither allocates nor locks.
    unsafe {
        let address = (*info).si_addr() as usize;
        let within = |slot: &&Slot| {
            let start = slot.start.load(Ordering::Acquire);
            !matches!(start, 0 | CLAIMED) && address.wrapping_sub(start) < WINDOW
        };
        if let Some(slot) = OPEN.iter().find(within) {
            let errno = *libc::__errno_location();
            let page = ptr::without_provenance_mut::<c_void>(address & !(PAGE - 1));
            let (read_write, nowhere) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let made = libc::mmap(page, PAGE, read_write, nowhere | libc::MAP_FIXED, -1, 0);
            *libc::__errno_location() = errno;
            if made != libc::MAP_FAILED {
                slot.failed.store(true, Ordering::Release);
                return;
            }
        }
        if let Some(Some(before)) = BEFORE.get() {
            libc::sigaction(signal, before, ptr::null_mut());
        } else {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FallocateFlags, fallocate};
    use std::os::unix::fs::FileExt;

    /// One test at a time: one of them takes all there are.
    fn alone() -> std::sync::MutexGuard<'static, ()> {
        static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn reserved(bytes: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
        file
    }

    fn read(file: &File, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    #[test]
    fn what_is_copied_can_be_read_from_the_file_at_once() {
        let _alone = alone();
        let file = reserved(2 * WINDOW as u64);
        let mut window = Window::open(&file, 5000).unwrap();
        assert!(window.covers(5000, WINDOW - 5000 + PAGE) && !window.covers(5000, WINDOW - 5000 + PAGE + 1));
        assert!(!window.covers(4095, 1));
        window.write(b"weir", 5000).unwrap();
        assert_eq!(read(&file, 4998, 8), b"\0\0weir\0\0");
        drop(window);
        assert_eq!(read(&file, 5000, 4), b"weir");
    }

    #[test]
    fn what_the_file_cannot_take_is_an_error_and_the_process_lives() {
        let _alone = alone();
        let file = reserved(8192);
        let mut window = Window::open(&file, 0).unwrap();
        window.write(b"good", 8188).unwrap();
        assert!(window.write(b"bad", 8192).is_err());
        assert!(window.write(b"late", 0).is_err(), "nothing more is entrusted to it");
        file.set_len(4096).unwrap();
        let mut second = Window::open(&file, 0).unwrap();
        assert!(second.write(&[7; 8192], 0).is_err());
        assert_eq!(read(&file, 0, 4096), vec![7; 4096]);
    }

    #[test]
    fn a_file_whose_space_is_not_reserved_has_no_window() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(Window::open(&file, 0).is_none());
    }

    #[test]
    fn windows_are_bounded_and_come_back() {
        let _alone = alone();
        let file = reserved(WINDOW as u64);
        let open: Vec<_> = std::iter::from_fn(|| Window::open(&file, 0)).take(MAX_WINDOWS + 1).collect();
        assert!(open.len() <= MAX_WINDOWS);
        drop(open);
        assert!(Window::open(&file, 0).is_some());
    }
}

//! An allocator that counts what threads of one name ask for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What Pingora names the threads of the service after.
const WORKER: &CStr = c"weir";

#[global_allocator]
static COUNTING: Counting = Counting;
static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
/// Where they were asked for, with `WEIR_SITES` in the environment.
static SITES: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

thread_local! {
    /// 0: not known yet; 1: a worker; 2: another thread; 3: a worker that is looking at itself.
    static KIND: Cell<u8> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(at, layout, size) }
    }
}

fn count(size: usize) {
    if !ON.load(Relaxed) {
        return;
    }
    let kind = KIND.get();
    if kind == 0 {
        KIND.set(if is_worker() { 1 } else { 2 });
    }
    if KIND.get() != 1 {
        return;
    }
    ALLOCATIONS.fetch_add(1, Relaxed);
    BYTES.fetch_add(size as u64, Relaxed);
    KIND.set(3);
    if let Ok(mut sites) = SITES.try_lock()
        && let Some(sites) = &mut *sites
    {
        *sites.entry(site(size)).or_default() += 1;
    }
    KIND.set(1);
}

fn is_worker() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes at most 16 bytes, the last of them 0 (prctl(2)).
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    CStr::from_bytes_until_nul(&name).is_ok_and(|name| name == WORKER)
}

/// The size, and the innermost lines of Weir's own that led here.
fn site(size: usize) -> String {
    let trace = Backtrace::force_capture().to_string();
    let own = trace.lines().map(str::trim).filter(|line| line.starts_with("at ./") && !line.contains("tests/"));
    let lines: Vec<_> = own.take(3).map(|line| &line["at ./".len()..]).collect();
    format!("{size:>6} {}", lines.join(" < "))
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
}

impl Cost {
    pub(crate) fn per(self, n: u32) -> Self {
        Self { allocations: self.allocations / f64::from(n), bytes: self.bytes / f64::from(n) }
    }
}

/// What the workers ask for while `work` goes on.
pub(crate) fn counted(work: impl FnOnce()) -> Cost {
    *SITES.lock().unwrap() = std::env::var_os("WEIR_SITES").map(|_| HashMap::new());
    ALLOCATIONS.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    ON.store(true, Relaxed);
    work();
    ON.store(false, Relaxed);
    Cost { allocations: ALLOCATIONS.load(Relaxed) as f64, bytes: BYTES.load(Relaxed) as f64 }
}

/// Prints where the last [`counted`] work allocated, if that was asked for.
pub(crate) fn show_sites(n: u32) {
    let Some(sites) = SITES.lock().unwrap().take() else { return };
    let mut sites: Vec<_> = sites.into_iter().filter(|(_, count)| *count >= u64::from(n) / 10).collect();
    sites.sort_by_key(|(site, count)| (std::cmp::Reverse(*count), site.clone()));
    sites.iter().for_each(|(site, count)| println!("{:6.2} × {site}", *count as f64 / f64::from(n)));
}

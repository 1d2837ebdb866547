//! The command `weir`.

use std::process::ExitCode;

/// A request makes some forty small allocations, nearly all freed by the thread that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages make the resident size a multiple of what is used: streams hold small things for long.
    // Where the kernel has none, there is nothing to disable.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    weir::cli::main()
}

//! The command `weir`.

use std::process::ExitCode;

/// A request makes some forty small allocations, nearly all freed by the thread that made them. Without
/// huge pages, which make the resident size a multiple of what is used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::main()
}

//! The command `weir`.

use std::process::ExitCode;

/// A request makes some forty small allocations, nearly all freed by the thread that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::main()
}

//! Lets the crate compile where the console was never built, and makes it compile anew when it was.

use std::fs;

fn main() {
    // A folder that is missing would be looked for, and the crate compiled, at every build. Where it cannot be made
    // nothing is lost but that.
    let _ = fs::create_dir_all("ui/dist");
    println!("cargo::rerun-if-changed=ui/dist");
    println!("cargo::rerun-if-changed=build.rs");
}

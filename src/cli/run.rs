//! `weir run`: the gateway until a signal ends it.

use std::path::Path;
use std::process::ExitCode;

use pingora_core::server::UnixShutdownSignalWatch;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{Gateway, Reloader, StartError};
use crate::descriptors;

use super::{fail, load};

pub(super) fn run(path: &Path) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    descriptors::raise();
    let started = (|| -> Result<(), StartError> {
        let gateway = Gateway::open(&config)?;
        let reloader = gateway.reloader(path);
        let (admin, token) = gateway.admin(&config, Some(reloader.clone()))?;
        if let Some(token) = token {
            // Shown once and kept only as a hash: this line is the only chance to note it down.
            println!("admin token, shown this once: {}", token.expose());
        }
        for listen in &config.listen {
            let scheme = if listen.tls.is_some() { "https" } else { "http" };
            println!("gateway on {scheme}://{}", listen.address);
        }
        println!("admin on http://{}", admin.address());
        reload_on_hangup(reloader);
        gateway.serve(&config, Box::new(UnixShutdownSignalWatch))?;
        admin.shutdown();
        Ok(())
    })();
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(format_args!("{e}")),
    }
}

/// Reloads at each SIGHUP, on a thread of its own: reading a file must not stop a stream.
fn reload_on_hangup(reloader: Reloader) {
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut hangups = signal(SignalKind::hangup())?;
            while hangups.recv().await.is_some() {
                // What was refused has been logged, and the last good configuration stays.
                let _ = reloader.reload();
            }
            Ok::<(), std::io::Error>(())
        })
    };
    let spawned = std::thread::Builder::new().name("reload".into()).spawn(move || {
        if let Err(e) = serve() {
            log::error!("SIGHUP is not heard: {e}");
        }
    });
    if let Err(e) = spawned {
        log::error!("SIGHUP is not heard: {e}");
    }
}

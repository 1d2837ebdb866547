//! The addresses that a gateway will listen on, if none runs: whether they are free.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::Finding;
use crate::config::Config;

/// One finding for all that can be had, one for each that cannot.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let all = config.listen.iter().map(|listen| listen.address).chain([config.admin.address]);
    let (mut free, mut findings) = (0, Vec::new());
    for address in all {
        match TcpListener::bind(address) {
            Ok(_) => free += 1,
            Err(e) => findings.push(taken(address, &e)),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("addresses", format!("all {free} can be listened on")));
    }
    findings
}

fn taken(address: SocketAddr, error: &io::Error) -> Finding {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "end what listens there (`ss -ltnp` shows it), or choose another address",
        io::ErrorKind::PermissionDenied => "a port below 1024 needs a socket unit or CAP_NET_BIND_SERVICE",
        _ => "choose an address of this machine",
    };
    Finding::problem("addresses", format!("{address}: {error}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_named_with_what_to_do() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let finding = taken(address, &TcpListener::bind(address).unwrap_err());
        assert!(finding.found.starts_with(&address.to_string()), "{}", finding.found);
        assert!(finding.advice.unwrap().starts_with("end what listens there"));
    }
}

//! What a gateway is called in its records.

use std::fmt::Display;

/// `<name>/<ledger>`: the name that was given, or else the machine's; and the ledger that has counted the request, so
/// that whoever reads records back knows which of them are counted there already.
pub(crate) fn node_name(given: Option<&str>, ledger: Option<impl Display>) -> String {
    let name = match given {
        Some(name) => name.to_owned(),
        None => host_name(),
    };
    match ledger {
        Some(ledger) => format!("{name}/{ledger}"),
        None => name,
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // A slash stands before the ledger.
    if name.is_empty() { "weir".to_owned() } else { name.replace('/', "-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_name_and_a_ledger() {
        assert_eq!(node_name(Some("edge-1"), Some("0123456789abcdef")), "edge-1/0123456789abcdef");
        let own = node_name(None, Some("0123456789abcdef"));
        assert!(own.len() > "/0123456789abcdef".len() && own.ends_with("/0123456789abcdef"), "{own}");
    }
}

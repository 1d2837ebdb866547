//! Names that stand for something else already, and which nobody may have for that reason.
//!
//! Owns the names and the reasons, for the file and for the admin API alike.

/// What the record of changes calls those who are no users: whoever has the admin token, may open the socket, or may
/// send signals.
pub(crate) const ACTORS: [&str; 3] = ["token", "socket", "signal"];

/// What is a path of the admin API where a user's name would be.
const USER_PATH: &str = "price-rate";

/// What is one where a channel's name would be.
const CHANNEL_PATH: &str = "order";

/// Why no user may be called so, as what follows the field's name; `None`: one may.
pub(crate) fn user(name: &str) -> Option<String> {
    if ACTORS.contains(&name) {
        return Some(format!("must not be `{name}`: the record of changes calls somebody else so"));
    }
    (name == USER_PATH).then(|| is_path(name))
}

/// The same of channels.
pub(crate) fn channel(name: &str) -> Option<String> {
    (name == CHANNEL_PATH).then(|| is_path(name))
}

fn is_path(name: &str) -> String {
    format!("must not be `{name}`, which is a path of the API")
}

//! How many descriptors the process may have, and how they are shared out.
//!
//! A connection that was accepted and then finds no descriptor for its upstream is worse than one that
//! was refused. So clients get half, and upstreams, one for each request under way, the other half.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For neither clients nor upstreams: the ledger's files, the listeners, the admin listener with its connections.
const OWN: u64 = 64;
/// For each thread: what it waits for events with, and its piece of the journal.
const EACH_THREAD: u64 = 8;
/// More is of no use, and what the kernel gives to a single process by default.
const MOST: u64 = 1 << 20;

/// Lets the process have as many as it may ask for. Shells and service managers start programs with few, for the
/// sake of those that would not know what to do with more.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(MOST).min(MOST);
    if limit.current.is_some_and(|current| current < most)
        && let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })
    {
        log::warn!("the limit of open files stays as it is: {e}");
    }
}

/// How many clients, and how many requests to upstreams, there are descriptors for.
pub(crate) fn for_each_side(threads: usize) -> usize {
    share(getrlimit(Resource::Nofile).current, threads)
}

fn share(limit: Option<u64>, threads: usize) -> usize {
    let own = OWN + EACH_THREAD * threads as u64;
    let share = limit.unwrap_or(MOST).min(MOST).saturating_sub(own) / 2;
    usize::try_from(share).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_needs_for_itself_is_kept_back() {
        assert_eq!(share(Some(1024), 2), 472);
        assert_eq!(share(Some(262_144), 64), 130_784);
        assert_eq!(share(None, 1), share(Some(1 << 30), 1));
        assert_eq!(share(Some(10), 4), 1, "there is always one");
    }
}

//! Owns where in which stream a record comes: one order for each stream, whatever the order in which records come
//! here. Refuses to know how many have been pushed.
//!
//! A record's timestamp is the time of its request's end, and never before that of the record that came before it in
//! its stream: records of several threads come here in batches, a little out of order. The line has the exact time.

use std::collections::HashMap;

use super::Class;

/// How many routes have streams of their own: what a configuration of thousands of routes must not become is
/// thousands of streams in Loki.
const MAX_ROUTES: usize = 200;

/// What all further routes are called.
const OTHER: &str = "other";

/// How far back a record's own time may lie for the order to be kept. A time that lies further back is that of a
/// clock that was set back; Loki takes nothing that is more than ten minutes ahead of its own, and a record out of
/// order rather than that.
const MAX_LAG_NS: u64 = 300_000_000_000;

/// The streams of one process, and the time of each one's last record.
#[derive(Debug, Default)]
pub struct Streams {
    routes: HashMap<Box<str>, [u64; Class::COUNT]>,
    floor: u64,
}

impl Streams {
    /// Nothing comes before `time_ns`: the last time of what an earlier process left to be pushed.
    pub fn not_before(&mut self, time_ns: u64) {
        self.floor = self.floor.max(time_ns);
    }

    /// The route that a record is listed under, and its timestamp, if its request ended at `end_ns`.
    pub fn place<'a>(&mut self, route: &'a str, class: Class, end_ns: u64) -> (&'a str, u64) {
        let is_known = self.routes.contains_key(route);
        let route = if is_known || self.routes.len() < MAX_ROUTES { route } else { OTHER };
        if !self.routes.contains_key(route) {
            self.routes.insert(route.into(), [0; Class::COUNT]);
        }
        let floor = self.floor;
        let Some(times) = self.routes.get_mut(route) else { return (route, end_ns) };
        let last = &mut times[usize::from(class.number())];
        let at_least = (*last).max(floor);
        let time = if end_ns.saturating_add(MAX_LAG_NS) < at_least { end_ns } else { end_ns.max(at_least) };
        *last = time;
        if time < floor {
            self.floor = 0;
        }
        (route, time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn ok() -> Class {
        Class::of(200)
    }

    #[test]
    fn each_stream_has_an_order_of_its_own() {
        let mut streams = Streams::default();
        for (route, class, end, expected) in [
            ("/a", ok(), 1000 * S, 1000 * S),
            ("/a", ok(), 999 * S, 1000 * S),
            ("/a", Class::of(500), 999 * S, 999 * S),
            ("/b", ok(), 998 * S, 998 * S),
            ("/a", ok(), 1000 * S, 1000 * S),
            ("/a", ok(), 1001 * S, 1001 * S),
        ] {
            assert_eq!(streams.place(route, class, end), (route, expected), "{route} {class:?} {end}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_keep_records_in_the_future() {
        let mut streams = Streams::default();
        streams.place("/a", ok(), 10_000 * S);
        assert_eq!(streams.place("/a", ok(), 9_700 * S), ("/a", 10_000 * S), "five minutes are disorder");
        assert_eq!(streams.place("/a", ok(), 9_699 * S), ("/a", 9_699 * S), "more is another clock");
        assert_eq!(streams.place("/a", ok(), 9_698 * S), ("/a", 9_699 * S), "which counts from there on");
        streams.not_before(10_000 * S);
        assert_eq!(streams.place("/a", ok(), 9_600 * S), ("/a", 9_600 * S));
        assert_eq!(streams.place("/b", ok(), 9_999 * S), ("/b", 9_999 * S));
    }

    #[test]
    fn nothing_comes_before_what_was_left() {
        let mut streams = Streams::default();
        streams.not_before(100 * S);
        streams.not_before(50 * S);
        assert_eq!(streams.place("/a", ok(), 99 * S), ("/a", 100 * S));
        assert_eq!(streams.place("/a", ok(), 101 * S), ("/a", 101 * S));
        assert_eq!(streams.place("/b", ok(), 99 * S), ("/b", 100 * S));
    }

    #[test]
    fn routes_without_number_share_one_stream() {
        let mut streams = Streams::default();
        let names: Vec<String> = (0..MAX_ROUTES + 5).map(|n| format!("/{n}")).collect();
        let placed: Vec<_> = names.iter().map(|name| streams.place(name, ok(), S).0).collect();
        assert_eq!(placed[MAX_ROUTES - 1], "/199");
        assert_eq!(placed[MAX_ROUTES..], [OTHER; 5]);
        assert_eq!(streams.place("/0", ok(), 0).0, "/0");
        assert_eq!(streams.routes.len(), MAX_ROUTES + 1);
        assert_eq!(streams.place("/x", ok(), 0), (OTHER, S), "which has an order, too");
    }
}

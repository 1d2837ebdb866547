//! The requests under way, and how many there may be.
//!
//! A request that comes when there are as many as may be is refused before its key is looked up or its
//! body read: what an overload costs is then little, and what is under way goes on at its pace.
//!
//! The count is that of an `Arc`'s holders: one atomic, touched when a request begins and when it ends.
//! All threads share it, as they share the counters of metrics, of which a request touches ten.

use std::sync::Arc;

/// The requests under way.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Arc<()>);

/// A request's place among them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held so that it counts")] Arc<()>);

impl InFlight {
    /// A place, if no more than `most` are taken with it.
    pub(super) fn enter(&self, most: usize) -> Option<Place> {
        let place = Place(self.0.clone());
        (self.count() <= most).then_some(place)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_under_way_than_there_may_be() {
        let in_flight = InFlight::default();
        let mut places: Vec<_> = std::iter::from_fn(|| in_flight.enter(3)).collect();
        assert_eq!((places.len(), in_flight.count()), (3, 3), "who was refused does not count");
        places.pop();
        assert!(in_flight.enter(3).is_some());
        places.clear();
        assert_eq!(in_flight.count(), 0);
    }

    #[test]
    fn threads_that_come_at_once_never_exceed_it() {
        let in_flight = InFlight::default();
        let most = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..5_000).filter_map(|_| in_flight.enter(2)).map(|_place| in_flight.count()).max())
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).max()
        });
        // Whoever is about to be refused is seen for a moment, but has no place.
        assert!(most.is_some_and(|most| most <= 2 + 4), "{most:?}");
        assert_eq!(in_flight.count(), 0);
    }
}

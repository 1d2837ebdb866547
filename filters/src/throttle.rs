//! How often somebody may try a secret: so many times at once, then once in a while.
//!
//! Owns the counting. It knows subjects by a hash alone and has a fixed number of places: whoever makes up names fills
//! no memory, and two subjects of one place only wait for each other. Refuses to know what is tried, and any clock.

/// How many tries there are at once, and how long each takes to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Tries at once.
    pub burst: u64,
    /// Until one of them is there again, in milliseconds.
    pub every_ms: u64,
}

/// Tries of many subjects.
#[derive(Debug)]
pub struct Throttle {
    pace: Pace,
    /// When each place has all of its tries again, in milliseconds of the caller's clock.
    whole_at: Box<[u64]>,
}

impl Throttle {
    /// With so many places; at least one.
    pub fn new(pace: Pace, places: usize) -> Self {
        Self { pace, whole_at: vec![0; places.max(1)].into() }
    }

    /// Takes a try of the subject with this hash.
    ///
    /// # Errors
    /// In how many milliseconds there is one.
    pub fn take(&mut self, subject: u64, now_ms: u64) -> Result<(), u64> {
        let Pace { burst, every_ms } = self.pace;
        let whole_at = self.place(subject);
        let next = now_ms.max(*whole_at).saturating_add(every_ms);
        let allowed = now_ms.saturating_add(every_ms.saturating_mul(burst));
        if next > allowed {
            return Err(next - allowed);
        }
        *whole_at = next;
        Ok(())
    }

    /// Gives a try back that was taken.
    pub fn give_back(&mut self, subject: u64) {
        let every_ms = self.pace.every_ms;
        let place = self.place(subject);
        *place = place.saturating_sub(every_ms);
    }

    fn place(&mut self, subject: u64) -> &mut u64 {
        // The remainder of a number that is below the length is one that the length's type holds.
        let at = usize::try_from(subject % self.whole_at.len() as u64).unwrap_or_default();
        &mut self.whole_at[at]
    }
}

/// Tries to be somebody: each counts against the name and against the address that it came from.
#[derive(Debug)]
pub struct Attempts {
    names: Throttle,
    addresses: Throttle,
    /// Pairs of a name and an address that have been right, each in the place of its hash.
    known: Box<[u64]>,
}

/// Who tries, as hashes that nobody outside can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subjects {
    /// The name; `None`: what is tried has none.
    pub name: Option<u64>,
    /// Where it comes from.
    pub address: u64,
    /// Both together.
    pub pair: u64,
}

/// A try that was taken and has not been right yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a try that was right is given back"]
pub struct Attempt {
    subjects: Subjects,
    /// Whether it was counted against the address.
    of_address: bool,
    /// What it was counted against beside that.
    counted: Option<u64>,
}

impl Attempts {
    /// With so many places for names, for addresses, and for what is known to be right.
    pub fn new(names: Pace, addresses: Pace, places: usize) -> Self {
        Self {
            names: Throttle::new(names, places),
            addresses: Throttle::new(addresses, places),
            known: vec![0; places.max(1)].into(),
        }
    }

    /// Takes a try. Where a name has been right before is counted by itself: strangers who try the name from elsewhere do
    /// not lock its owner out, and neither do those who try other names from the same address, as all do behind a proxy
    /// that does not say who asks it.
    ///
    /// # Errors
    /// In how many milliseconds there is one.
    pub fn begin(&mut self, subjects: Subjects, now_ms: u64) -> Result<Attempt, u64> {
        let is_known = self.known[self.known_place(subjects.pair)] == subjects.pair;
        let of_address = !(is_known && subjects.name.is_some());
        if of_address {
            self.addresses.take(subjects.address, now_ms)?;
        }
        let counted = subjects.name.map(|name| if is_known { subjects.pair } else { name });
        let attempt = Attempt { subjects, of_address, counted };
        if let Some(Err(wait_ms)) = counted.map(|counted| self.names.take(counted, now_ms)) {
            self.give_back(Attempt { counted: None, ..attempt });
            return Err(wait_ms);
        }
        Ok(attempt)
    }

    /// It was right: it does not count.
    pub fn was_right(&mut self, attempt: Attempt) {
        self.give_back(attempt);
        if attempt.counted.is_some() {
            let place = self.known_place(attempt.subjects.pair);
            self.known[place] = attempt.subjects.pair;
        }
    }

    /// It was not looked at: it does not count either.
    pub fn was_not_looked_at(&mut self, attempt: Attempt) {
        self.give_back(attempt);
    }

    fn give_back(&mut self, attempt: Attempt) {
        if attempt.of_address {
            self.addresses.give_back(attempt.subjects.address);
        }
        if let Some(counted) = attempt.counted {
            self.names.give_back(counted);
        }
    }

    fn known_place(&self, pair: u64) -> usize {
        usize::try_from(pair % self.known.len() as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace { burst: 3, every_ms: 100 };

    fn taken(throttle: &mut Throttle, subject: u64, now_ms: u64) -> usize {
        std::iter::repeat_with(|| throttle.take(subject, now_ms)).take_while(Result::is_ok).count()
    }

    #[test]
    fn so_many_are_let_in_at_once_and_then_one_in_a_while() {
        let mut throttle = Throttle::new(PACE, 16);
        assert_eq!(taken(&mut throttle, 1, 5000), 3);
        assert_eq!(throttle.take(1, 5000), Err(100));
        assert_eq!(throttle.take(1, 5099), Err(1));
        assert_eq!((throttle.take(1, 5100), throttle.take(1, 5100)), (Ok(()), Err(100)));
        assert_eq!(taken(&mut throttle, 2, 5000), 3, "another one has tries of its own");
        assert_eq!(taken(&mut throttle, 1, 900_000), 3, "never more than at once");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut throttle = Throttle::new(PACE, 1);
        for _ in 0..10 {
            assert_eq!(throttle.take(7, 1000), Ok(()));
            throttle.give_back(7);
        }
        assert_eq!(taken(&mut throttle, 7, 1000), 3);
        for _ in 0..10 {
            throttle.give_back(7);
        }
        assert_eq!(taken(&mut throttle, 7, 1000), 3, "giving back more than was taken gives nothing");
    }

    fn subjects(name: Option<u64>, address: u64) -> Subjects {
        Subjects { name, address, pair: 1000 * name.unwrap_or_default() + address }
    }

    #[test]
    fn a_name_is_held_from_wherever_it_is_tried_and_an_address_whatever_it_tries() {
        let addresses = Pace { burst: 5, every_ms: 100 };
        let mut attempts = Attempts::new(PACE, addresses, 4096);
        for address in 0..3 {
            assert!(attempts.begin(subjects(Some(9), address), 0).is_ok());
        }
        assert_eq!(attempts.begin(subjects(Some(9), 3), 0), Err(100));
        for name in 20..25 {
            assert!(attempts.begin(subjects(Some(name), 3), 0).is_ok(), "what was refused took nothing of the address");
        }
        assert_eq!(attempts.begin(subjects(Some(30), 3), 0), Err(100));
        assert_eq!(attempts.begin(subjects(None, 3), 0), Err(100));
        assert!(attempts.begin(subjects(None, 4), 0).is_ok());
    }

    #[test]
    fn strangers_do_not_lock_out_who_has_been_right_before() {
        let mut attempts = Attempts::new(PACE, PACE, 4096);
        let not_seen = attempts.begin(subjects(Some(9), 1), 0).unwrap();
        attempts.was_not_looked_at(not_seen);
        let own = attempts.begin(subjects(Some(9), 1), 0).unwrap();
        attempts.was_right(own);
        for address in 2..5 {
            assert!(attempts.begin(subjects(Some(9), address), 0).is_ok());
        }
        assert!(attempts.begin(subjects(Some(9), 5), 0).is_err(), "a stranger from elsewhere");
        for _ in 0..3 {
            assert!(attempts.begin(subjects(Some(9), 1), 0).is_ok(), "its owner from where it was right");
        }
        assert!(attempts.begin(subjects(Some(9), 1), 0).is_err(), "who is held like everybody");
    }

    #[test]
    fn who_has_been_right_from_an_address_is_let_in_whatever_others_try_from_there() {
        let mut attempts = Attempts::new(PACE, PACE, 4096);
        let own = attempts.begin(subjects(Some(9), 1), 0).unwrap();
        attempts.was_right(own);
        for name in 20..23 {
            assert!(attempts.begin(subjects(Some(name), 1), 0).is_ok());
        }
        assert_eq!(attempts.begin(subjects(Some(30), 1), 0), Err(100));
        assert_eq!(attempts.begin(subjects(None, 1), 0), Err(100));
        for _ in 0..2 {
            let own = attempts.begin(subjects(Some(9), 1), 0).unwrap();
            attempts.was_right(own);
        }
        assert_eq!(attempts.begin(subjects(Some(30), 1), 0), Err(100), "they have given the others nothing");
        for _ in 0..3 {
            assert!(attempts.begin(subjects(Some(9), 1), 0).is_ok());
        }
        assert_eq!(attempts.begin(subjects(Some(9), 1), 0), Err(100), "and have tries of their own");
    }

    proptest! {
        #[test]
        fn no_order_of_tries_gets_more_than_the_pace(steps in prop::collection::vec(0_u64..80, 1..200)) {
            let mut throttle = Throttle::new(PACE, 4);
            let (mut now_ms, mut taken) = (0, 0);
            for step in steps {
                now_ms += step;
                taken += u64::from(throttle.take(3, now_ms).is_ok());
                prop_assert!(taken <= PACE.burst + now_ms / PACE.every_ms);
            }
        }
    }
}

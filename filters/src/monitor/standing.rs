//! What a row of probes says of a model at a channel, and what those of all its models say of the channel.
//!
//! One probe changes nothing that is known: an upstream may stumble once. The second in a row that says otherwise does.

/// Probes in a row, which all say the same, that change what is known.
const AGREEING: u8 = 2;

/// What is known of a model at a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It was never probed.
    #[default]
    Unknown,
    /// It answers.
    Passing,
    /// It does not; other channels are asked for it.
    Failing,
}

/// What is known of a model, and what speaks against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    standing: Standing,
    /// Probes in a row that say otherwise.
    against: u8,
}

/// What a probe has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Another probe now would settle it.
    Doubt,
    /// What is known is another.
    To(Standing),
}

impl Standing {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Passing => "passing",
            Self::Failing => "failing",
        }
    }
}

impl Streak {
    /// Of a model that stood so when it was last known.
    pub fn from(standing: Standing) -> Self {
        Self { standing, against: 0 }
    }

    /// What is known.
    pub fn standing(self) -> Standing {
        self.standing
    }

    /// Takes a probe's result.
    pub fn take(&mut self, passed: bool) -> Change {
        let said = if passed { Standing::Passing } else { Standing::Failing };
        if said == self.standing {
            self.against = 0;
            return Change::None;
        }
        // The first good word is enough: nothing has spoken against it.
        let is_settled = self.standing == Standing::Unknown && passed;
        self.against += 1;
        if !is_settled && self.against < AGREEING {
            return Change::Doubt;
        }
        *self = Self::from(said);
        Change::To(said)
    }
}

/// What a run says of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// All models answered.
    Healthy,
    /// Some did.
    Degraded,
    /// None did.
    Down,
    /// There is none to be asked for.
    NoModels,
    /// It could not be found out.
    Error,
}

impl RunState {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::NoModels => "no_models",
            Self::Error => "error",
        }
    }

    /// The state of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Healthy, Self::Degraded, Self::Down, Self::NoModels, Self::Error].into_iter().find(|s| s.name() == name)
    }

    /// Of a run in which so many models answered, and so many did not. Those that were not asked say nothing.
    pub fn of(passed: usize, failed: usize) -> Self {
        match (passed, failed) {
            (0, 0) => Self::Error,
            (_, 0) => Self::Healthy,
            (0, _) => Self::Down,
            _ => Self::Degraded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(results: &str) -> (Vec<Change>, Standing) {
        let mut streak = Streak::default();
        let changes = results.chars().map(|result| streak.take(result == '+')).collect();
        (changes, streak.standing())
    }

    #[test]
    fn one_probe_in_between_changes_nothing_and_two_do() {
        use Change::{Doubt, None, To};
        use Standing::{Failing, Passing};
        assert_eq!(told("+"), (vec![To(Passing)], Passing));
        assert_eq!(told("-"), (vec![Doubt], Standing::Unknown));
        assert_eq!(told("--"), (vec![Doubt, To(Failing)], Failing));
        assert_eq!(told("+-+-+"), (vec![To(Passing), Doubt, None, Doubt, None], Passing));
        assert_eq!(told("+--"), (vec![To(Passing), Doubt, To(Failing)], Failing));
        assert_eq!(told("--+-++"), (vec![Doubt, To(Failing), Doubt, None, Doubt, To(Passing)], Passing));
        assert_eq!(told("-+"), (vec![Doubt, To(Passing)], Passing));
    }

    #[test]
    fn a_run_is_as_its_models_are() {
        for (passed, failed, state) in
            [(2, 0, RunState::Healthy), (1, 1, RunState::Degraded), (0, 3, RunState::Down), (0, 0, RunState::Error)]
        {
            assert_eq!(RunState::of(passed, failed), state);
            assert_eq!(RunState::named(state.name()), Some(state));
        }
        assert_eq!((RunState::named("no_models"), RunState::named("?")), (Some(RunState::NoModels), None));
    }
}

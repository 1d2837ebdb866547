//! The health of something that answers requests, a channel or one of its keys, as its answers show it.
//!
//! Owns the states and what leads from one to the next. It refuses to know what failed, and takes the time
//! as an argument.
//!
//! # States
//! - **Healthy**: it is asked. Each failure counts one, each whole answer takes one back; at
//!   [`Cooldown::failures`] it cools down. So what fails less often than it answers stays.
//! - **Cooling down**: it is not asked for [`Cooldown::time`].
//! - **On trial**: after that one request is let through, and no other while it lasts. If it fails, the
//!   cooldown begins anew; if it is answered, the state is healthy again, on probation: one failure more
//!   than answers, and it cools down once more.

use std::time::{Duration, Instant};

/// The longest wait that an upstream can ask for: some say days, but it may well recover earlier, and
/// nothing but a request would find out.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

/// The shortest: an upstream that refuses and says to come back at once would be asked without end.
pub const MIN_WAIT: Duration = Duration::from_secs(1);

/// When something cools down, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// How many failures it takes, more than whole answers; at least one.
    pub failures: u32,
    /// For how long.
    pub time: Duration,
}

/// A failure, as far as health is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blow {
    /// One is enough: there is no doubt about it, as when a key's rate is exhausted.
    pub is_final: bool,
    /// For how long the other side asked not to be asked.
    pub wait: Option<Duration>,
}

/// Leave to ask. What comes of it is reported with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    round: u32,
    is_trial: bool,
}

/// Whether something may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Ready,
    /// Not before then. A time that is over: its trial is running.
    Cooling {
        /// When its trial can begin.
        until: Instant,
    },
}

/// The state of health, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is asked.
    Healthy,
    /// It is not asked before then.
    Cooling {
        /// When its trial can begin.
        until: Instant,
    },
    /// Its cooldown is over: one request finds out, or is about to.
    Trial,
}

/// The health of one channel or key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Goes up with each cooldown, so that what began before it no longer counts.
    round: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Healthy { failures: u32 },
    Cooling { until: Instant },
    Trial { since: Instant },
}

impl Default for State {
    fn default() -> Self {
        Self::Healthy { failures: 0 }
    }
}

impl Condition {
    /// Of two that must both be well: the worse. It is over when both are.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Cooling { until: a }, Self::Cooling { until: b }) => Self::Cooling { until: a.max(b) },
            (cooling @ Self::Cooling { .. }, _) | (_, cooling @ Self::Cooling { .. }) => cooling,
            (Self::Trial, _) | (_, Self::Trial) => Self::Trial,
            (Self::Healthy, Self::Healthy) => Self::Healthy,
        }
    }

    /// Of two of which either will do: the better.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Healthy, _) | (_, Self::Healthy) => Self::Healthy,
            (Self::Trial, _) | (_, Self::Trial) => Self::Trial,
            (Self::Cooling { until: a }, Self::Cooling { until: b }) => Self::Cooling { until: a.min(b) },
        }
    }

    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Cooling { .. } => "cooling",
            Self::Trial => "trial",
        }
    }

    /// Until when it is not asked.
    pub const fn until(self) -> Option<Instant> {
        match self {
            Self::Cooling { until } => Some(until),
            Self::Healthy | Self::Trial => None,
        }
    }
}

impl Ticket {
    /// Leave to ask something that is known to be healthy in this round, for callers that keep the round
    /// at hand.
    pub fn in_round(round: u32) -> Self {
        Self { round, is_trial: false }
    }

    /// Whether it is the one request of a trial.
    pub fn is_trial(self) -> bool {
        self.is_trial
    }
}

impl Health {
    /// How often it has cooled down.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// Whether it is asked without further thought.
    pub fn is_healthy(&self) -> bool {
        matches!(self.state, State::Healthy { .. })
    }

    /// Whether a whole answer would change nothing.
    pub fn is_spotless(&self) -> bool {
        self.state == State::default()
    }

    /// Whether it may be asked at `now`.
    pub fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::Cooling { until } if now < until => Standing::Cooling { until },
            State::Trial { since } => Standing::Cooling { until: since },
            State::Healthy { .. } | State::Cooling { .. } => Standing::Ready,
        }
    }

    /// Its state at `now`.
    pub fn condition(&self, now: Instant) -> Condition {
        match self.state {
            State::Healthy { .. } => Condition::Healthy,
            State::Cooling { until } if now < until => Condition::Cooling { until },
            State::Cooling { .. } | State::Trial { .. } => Condition::Trial,
        }
    }

    /// Leave to ask it, if it may be asked. After a cooldown this is the trial.
    pub fn claim(&mut self, now: Instant) -> Option<Ticket> {
        if self.standing(now) != Standing::Ready {
            return None;
        }
        let is_trial = !self.is_healthy();
        if is_trial {
            self.state = State::Trial { since: now };
        }
        Some(Ticket { round: self.round, is_trial })
    }

    /// Leave to ask it all the same, because nothing better is there.
    pub fn force(&self) -> Ticket {
        Ticket::in_round(self.round)
    }

    /// An answer has begun that is no failure.
    pub fn answered(&mut self, ticket: Ticket, cooldown: &Cooldown) {
        if ticket.round == self.round && !self.is_healthy() {
            self.state = State::Healthy { failures: cooldown.failures.saturating_sub(1) };
        }
    }

    /// An answer was whole.
    pub fn succeeded(&mut self, ticket: Ticket) {
        if let State::Healthy { failures } = &mut self.state
            && ticket.round == self.round
        {
            *failures = failures.saturating_sub(1);
        }
    }

    /// It failed. `true`: with this it cools down.
    pub fn failed(&mut self, ticket: Ticket, blow: Blow, cooldown: &Cooldown, now: Instant) -> bool {
        if ticket.round != self.round {
            return false;
        }
        let wait = blow.wait.map(|wait| wait.clamp(MIN_WAIT, MAX_WAIT));
        match &mut self.state {
            State::Healthy { failures } if !blow.is_final && *failures + 1 < cooldown.failures => {
                *failures += 1;
                return false;
            }
            // Somebody asked although it cools down: only what the upstream itself says lengthens that.
            State::Cooling { until } => {
                *until = wait.map_or(*until, |wait| (*until).max(now + wait));
                return false;
            }
            State::Trial { .. } if !ticket.is_trial => return false,
            State::Healthy { .. } | State::Trial { .. } => {}
        }
        // A refusal for certain knows its own time best; otherwise the upstream can only ask for more.
        let time = match wait {
            Some(wait) if blow.is_final => wait,
            wait => cooldown.time.max(wait.unwrap_or_default()),
        };
        self.round = self.round.wrapping_add(1);
        self.state = State::Cooling { until: now + time };
        true
    }

    /// Nothing came of it that says anything, as when the client left. A trial can begin anew.
    pub fn abandoned(&mut self, ticket: Ticket, now: Instant) {
        if ticket.is_trial && ticket.round == self.round && matches!(self.state, State::Trial { .. }) {
            self.state = State::Cooling { until: now };
        }
    }
}

#[cfg(test)]
mod tests;

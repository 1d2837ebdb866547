//! What probes say of the models of a channel.
//!
//! Owns what each model's probes said last, and that a request learns of it without a lock. What a row of results means
//! is decided in [`weir_filters::monitor`]; what follows from it, by whoever chooses channels or lists models.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use weir_filters::monitor::{Change, Standing, Streak};

use super::Channel;

/// The verdicts on one channel's models, as clients call them.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Whether there is anything in `failing`: what almost every request needs to know of it.
    is_any_failing: AtomicBool,
    /// Those that fail, sorted.
    failing: ArcSwap<Vec<Arc<str>>>,
    streaks: Mutex<Streaks>,
}

type Streaks = BTreeMap<Arc<str>, Streak>;

impl Verdicts {
    /// Whether probes of `model` say that it does not answer.
    #[inline]
    pub(super) fn is_failing(&self, model: &str) -> bool {
        // Whoever reads an old word here asks a channel once more, or once less.
        self.is_any_failing.load(Ordering::Relaxed)
            && self.failing.load().binary_search_by(|failing| (**failing).cmp(model)).is_ok()
    }

    /// Keeps only what is said of models that `keep` tells.
    pub(super) fn forget(&self, keep: impl Fn(&str) -> bool) {
        let mut streaks = self.lock();
        let before = streaks.len();
        streaks.retain(|model, _| keep(model));
        if streaks.len() < before {
            self.publish(&streaks);
        }
    }

    /// Takes a result.
    fn take(&self, model: &str, passed: bool) -> Change {
        let mut streaks = self.lock();
        let change = match streaks.get_mut(model) {
            Some(streak) => streak.take(passed),
            None => streaks.entry(model.into()).or_default().take(passed),
        };
        if matches!(change, Change::To(_)) {
            self.publish(&streaks);
        }
        change
    }

    /// Takes what was known before.
    pub(super) fn set(&self, model: &str, standing: Standing) {
        let mut streaks = self.lock();
        streaks.insert(model.into(), Streak::from(standing));
        self.publish(&streaks);
    }

    fn of(&self, model: &str) -> Standing {
        self.lock().get(model).copied().unwrap_or_default().standing()
    }

    fn passing(&self) -> Vec<Arc<str>> {
        in_standing(&self.lock(), Standing::Passing).collect()
    }

    /// Under the lock, so that the last change is the one that stays.
    fn publish(&self, streaks: &Streaks) {
        let failing: Vec<_> = in_standing(streaks, Standing::Failing).collect();
        let is_any = !failing.is_empty();
        self.failing.store(Arc::new(failing));
        self.is_any_failing.store(is_any, Ordering::Relaxed);
    }

    /// What panics under it leaves a table that is still one.
    fn lock(&self) -> MutexGuard<'_, Streaks> {
        self.streaks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the order of their names.
fn in_standing(streaks: &Streaks, standing: Standing) -> impl Iterator<Item = Arc<str>> {
    streaks.iter().filter(move |(_, streak)| streak.standing() == standing).map(|(model, _)| model.clone())
}

impl Channel {
    /// Whether its probes of `model` say that it does not answer. Other channels are asked for it, if there are any.
    #[inline]
    pub fn is_failing(&self, model: &str) -> bool {
        self.state.verdicts.is_failing(model)
    }

    /// The models that answered when they were probed last and that it still serves, sorted. Some of them may only match
    /// a pattern of it.
    pub(crate) fn passing(&self) -> Vec<Arc<str>> {
        let mut passing = self.state.verdicts.passing();
        passing.retain(|model| self.serves(model));
        passing
    }

    /// Takes the result of a probe of `model`, as clients call it.
    pub(crate) fn judged(&self, model: &str, passed: bool) -> Change {
        self.state.verdicts.take(model, passed)
    }

    /// Takes what was known of `model` before a restart.
    pub(crate) fn restore(&self, model: &str, standing: Standing) {
        self.state.verdicts.set(model, standing);
    }

    /// What is known of `model`.
    pub(crate) fn verdict(&self, model: &str) -> Standing {
        self.state.verdicts.of(model)
    }

    /// Forgets what is known of models that `keep` does not tell: they are no longer probed.
    pub(crate) fn forget(&self, keep: impl Fn(&str) -> bool) {
        self.state.verdicts.forget(keep);
    }
}

#[cfg(test)]
mod tests {
    use weir_filters::protocol::Protocol;

    use super::super::tests::{channel, made};
    use super::*;

    fn probed() -> Channel {
        made(channel("one", Protocol::OpenAi, &["gpt-*", "o3"]))
    }

    fn failing(channel: &Channel) -> Vec<Arc<str>> {
        channel.state.verdicts.failing.load().to_vec()
    }

    #[test]
    fn a_model_fails_after_two_bad_probes_and_is_back_after_two_good_ones() {
        let channel = probed();
        assert_eq!((channel.verdict("o3"), channel.is_failing("o3")), (Standing::Unknown, false));
        assert_eq!(channel.judged("o3", false), Change::Doubt);
        assert_eq!((channel.verdict("o3"), channel.is_failing("o3")), (Standing::Unknown, false));
        assert_eq!(channel.judged("o3", false), Change::To(Standing::Failing));
        assert_eq!((channel.verdict("o3"), channel.is_failing("o3")), (Standing::Failing, true));
        assert_eq!(channel.judged("o3", true), Change::Doubt);
        assert!(channel.is_failing("o3"));
        assert_eq!(channel.judged("o3", true), Change::To(Standing::Passing));
        assert_eq!((channel.verdict("o3"), channel.is_failing("o3")), (Standing::Passing, false));
        assert!(!channel.state.verdicts.is_any_failing.load(Ordering::Relaxed), "nothing is looked up any more");
    }

    #[test]
    fn each_model_is_judged_for_itself_and_by_its_whole_name() {
        let channel = probed();
        for model in ["gpt-5", "gpt-4o", "gpt-4"] {
            channel.restore(model, Standing::Failing);
        }
        assert_eq!(channel.judged("gpt-4o-mini", true), Change::To(Standing::Passing));
        for (model, expected) in
            [("gpt-4", true), ("gpt-4o", true), ("gpt-5", true), ("gpt-4o-mini", false), ("GPT-4", false), ("", false)]
        {
            assert_eq!(channel.is_failing(model), expected, "{model}");
        }
        assert_eq!(failing(&channel), ["gpt-4", "gpt-4o", "gpt-5"].map(Arc::from));
    }

    #[test]
    fn what_was_known_before_a_restart_is_as_hard_to_change() {
        let channel = probed();
        channel.restore("o3", Standing::Failing);
        assert_eq!((channel.judged("o3", true), channel.is_failing("o3")), (Change::Doubt, true));
        channel.restore("gpt-5", Standing::Passing);
        assert_eq!((channel.judged("gpt-5", false), channel.is_failing("gpt-5")), (Change::Doubt, false));
        channel.restore("o3", Standing::Unknown);
        assert_eq!((channel.verdict("o3"), channel.is_failing("o3")), (Standing::Unknown, false));
    }

    #[test]
    fn those_that_pass_are_told_while_the_channel_serves_them() {
        let channel = probed();
        for model in ["o3", "gpt-5", "o1", "gpt-4o"] {
            channel.judged(model, true);
        }
        channel.judged("gpt-6", false);
        channel.restore("gpt-7", Standing::Failing);
        assert_eq!(channel.passing(), ["gpt-4o", "gpt-5", "o3"].map(Arc::from), "o1 is none of its models now");
    }

    #[test]
    fn models_that_are_no_longer_probed_are_forgotten() {
        let channel = probed();
        channel.restore("o3", Standing::Failing);
        channel.restore("gpt-5", Standing::Failing);
        channel.restore("gpt-4o", Standing::Passing);
        channel.forget(|model| model == "o3");
        assert_eq!(failing(&channel), ["o3"].map(Arc::from));
        assert_eq!((channel.verdict("gpt-5"), channel.passing()), (Standing::Unknown, vec![]));
        channel.forget(|_| false);
        assert!(!channel.is_failing("o3") && !channel.state.verdicts.is_any_failing.load(Ordering::Relaxed));
    }

    #[test]
    fn readers_see_nothing_but_what_was_said_while_it_changes() {
        let channel = probed();
        channel.restore("gpt-5", Standing::Failing);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..2_000).for_each(|n| _ = channel.judged("o3", n / 2 % 2 == 1)));
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        assert!(channel.is_failing("gpt-5") && !channel.is_failing("gpt-4o"));
                        channel.is_failing("o3");
                    }
                });
            }
        });
        assert_eq!((channel.verdict("o3"), channel.is_failing("o3")), (Standing::Passing, false));
    }
}

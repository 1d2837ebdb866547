//! The facts that may call for a person, as they are in memory.
//!
//! Owns where they are found and that finding them costs little. What they call for is judged by
//! [`weir_filters::attention`].

use std::collections::HashSet;
use std::time::Instant;

use weir_filters::attention::{self, Attention, MAX_OF_A_KIND, UnwellChannel};
use weir_filters::health::Condition;
use weir_filters::limits::{BudgetUse, Subject};

use crate::channels::{Channel, Wish};
use crate::control::now_ms;
use crate::proxy::{Shared, Snapshot};

/// How many channels are looked at for one that stands in for a model.
const MAX_OTHERS: usize = 64;

/// What the channels in force call for. A channel that somebody drains is not asked on purpose.
pub(super) fn of_channels(live: &Snapshot, now: Instant) -> Vec<Attention> {
    let in_service = live.channels().iter().filter(|channel| !channel.is_drained());
    let unwell =
        in_service.filter(|channel| channel.condition(now) != Condition::Healthy || channel.keys_cooling(now) > 0);
    // Who stands in is asked for as many as are shown; where more are unwell that is told by these.
    let told = unwell.take(2 * MAX_OF_A_KIND).filter_map(|channel| {
        let condition = channel.condition(now);
        let is_down = matches!(condition, Condition::Cooling { .. });
        let keys = channel.config().keys.iter().enumerate();
        let cooling = |place| matches!(channel.key_condition(place, now), Condition::Cooling { .. });
        attention::channel(&UnwellChannel {
            name: channel.name(),
            condition,
            cooling_for: condition.until().map(|until| until.saturating_duration_since(now)),
            keys: keys.filter(|(place, _)| cooling(*place)).map(|(_, key)| &*key.name).collect(),
            stranded: if is_down { stranded(live, channel, now) } else { Vec::new() },
        })
    });
    told.collect()
}

/// What a channel serves and nobody does in its place. A pattern stands for itself: another one stands in for it if it
/// matches the pattern's own text, stars and all.
fn stranded<'c>(live: &Snapshot, channel: &'c Channel, now: Instant) -> Vec<&'c str> {
    let globs = channel.config().models.iter().map(weir_filters::glob::Glob::as_str);
    let models = globs.chain(channel.config().model_map.keys().map(String::as_str));
    let mut stranded: Vec<&str> = models
        .filter(|model| {
            let protocol = channel.config().protocol;
            let wish = Wish { protocol, model: Some(model), among: &[], last: None, chance: 0, now };
            let mut others = live.channels().permitted(&wish, |name| name != &**channel.name()).take(MAX_OTHERS);
            !others.any(|other| !other.is_drained() && other.is_up(now))
        })
        .collect();
    stranded.dedup();
    stranded.truncate(MAX_OF_A_KIND);
    stranded
}

/// What the budgets in force call for, those of which most is spent first. Keys that are disabled or have expired need no
/// money.
pub(super) fn of_budgets(shared: &Shared, live: &Snapshot) -> Vec<Attention> {
    let now_ms = now_ms();
    let now = shared.accounts.at(now_ms);
    let mut near: Vec<(BudgetUse, Attention)> = Vec::new();
    let mut note = |subject, name: &str, id: Option<&str>, used: Option<BudgetUse>| {
        let Some(used) = used else { return };
        near.extend(attention::budget(subject, name, id, used).map(|told| (used, told)));
    };
    let mut users = HashSet::new();
    for key in live.keys().filter(|key| live.is_usable(key, now_ms)) {
        for (subject, account) in key.accounts() {
            match subject {
                Subject::Key => note(*subject, &key.name, Some(&key.id), account.tightest_budget(now)),
                Subject::User if users.insert(&*key.user) => {
                    note(*subject, &key.user, None, account.tightest_budget(now));
                }
                Subject::User | Subject::Channel => {}
            }
        }
    }
    for channel in live.channels().iter() {
        let room = live.room_of(channel);
        note(Subject::Channel, channel.name(), None, room.and_then(|room| room.tightest_budget(now)));
    }
    let share = |used: &BudgetUse| u128::from(used.spent.0) * 10_000 / u128::from(used.allowed.0.max(1));
    near.sort_by_key(|(used, told)| (std::cmp::Reverse(share(used)), told.subject.clone()));
    near.into_iter().map(|(_, told)| told).collect()
}

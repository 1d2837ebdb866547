use super::*;
use proptest::prelude::*;

const COOLDOWN: Cooldown = Cooldown { failures: 3, time: Duration::from_secs(30) };
const FAILURE: Blow = Blow { is_final: false, wait: None };

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Cools down at the time that is given.
fn cooling(start: Instant) -> Health {
    let mut health = Health::default();
    let tripped = [(); 3].map(|()| {
        let ticket = health.claim(start).unwrap();
        health.failed(ticket, FAILURE, &COOLDOWN, start)
    });
    assert_eq!(tripped, [false, false, true]);
    health
}

#[test]
fn it_cools_down_after_enough_failures_and_for_its_time() {
    let start = Instant::now();
    let health = cooling(start);
    let (almost, until) = (start + seconds(29), start + COOLDOWN.time);
    assert_eq!(health.standing(start), Standing::Cooling { until });
    assert_eq!(health.standing(almost), Standing::Cooling { until });
    assert_eq!(health.standing(until), Standing::Ready);
}

#[test]
fn a_whole_answer_takes_one_failure_back() {
    let (mut health, now) = (Health::default(), Instant::now());
    for _ in 0..100 {
        let ticket = health.claim(now).unwrap();
        assert!(!health.failed(ticket, FAILURE, &COOLDOWN, now));
        health.answered(ticket, &COOLDOWN);
        health.succeeded(ticket);
    }
    assert!(health.is_spotless());
}

#[test]
fn a_trial_is_one_request_and_its_failure_begins_the_cooldown_anew() {
    let start = Instant::now();
    let (mut health, later) = (cooling(start), start + COOLDOWN.time);
    let trial = health.claim(later).unwrap();
    assert!(trial.is_trial());
    assert_eq!(health.claim(later), None, "one at a time");
    assert_eq!(health.standing(later), Standing::Cooling { until: later });
    assert!(health.failed(trial, FAILURE, &COOLDOWN, later));
    assert_eq!(health.standing(later), Standing::Cooling { until: later + COOLDOWN.time });
}

#[test]
fn after_an_answered_trial_one_failure_is_enough_until_answers_outweigh_it() {
    let start = Instant::now();
    let (mut health, later) = (cooling(start), start + COOLDOWN.time);
    let trial = health.claim(later).unwrap();
    health.answered(trial, &COOLDOWN);
    let mut relapsed = health.clone();
    let ticket = relapsed.claim(later).unwrap();
    assert!(!ticket.is_trial());
    assert!(relapsed.failed(ticket, FAILURE, &COOLDOWN, later));

    health.succeeded(trial);
    health.succeeded(ticket);
    assert!(health.is_spotless());
}

#[test]
fn an_abandoned_trial_can_begin_anew_at_once() {
    let start = Instant::now();
    let (mut health, later) = (cooling(start), start + COOLDOWN.time);
    let trial = health.claim(later).unwrap();
    health.abandoned(trial, later);
    assert_eq!(health.claim(later).map(Ticket::is_trial), Some(true));
}

#[test]
fn what_began_before_a_cooldown_no_longer_counts() {
    let start = Instant::now();
    let mut health = Health::default();
    let slow = health.claim(start).unwrap();
    let round = health.round();
    for _ in 0..3 {
        let ticket = health.claim(start).unwrap();
        health.failed(ticket, FAILURE, &COOLDOWN, start);
    }
    assert_eq!(health.round(), round + 1);
    let cooled = health.clone();
    health.answered(slow, &COOLDOWN);
    health.succeeded(slow);
    health.abandoned(slow, start);
    assert!(!health.failed(slow, FAILURE, &COOLDOWN, start));
    assert_eq!(health, cooled);
}

#[test]
fn a_final_refusal_cools_down_at_once_and_for_as_long_as_it_says() {
    let now = Instant::now();
    for (wait, expected) in [
        (None, COOLDOWN.time),
        (Some(seconds(7)), seconds(7)),
        (Some(Duration::ZERO), MIN_WAIT),
        (Some(seconds(86_400)), MAX_WAIT),
    ] {
        let mut health = Health::default();
        let ticket = health.claim(now).unwrap();
        assert!(health.failed(ticket, Blow { is_final: true, wait }, &COOLDOWN, now));
        assert_eq!(health.standing(now), Standing::Cooling { until: now + expected }, "{wait:?}");
    }
}

#[test]
fn what_is_asked_in_spite_of_a_cooldown_can_end_it_and_not_begin_it_anew() {
    let start = Instant::now();
    let later = start + seconds(10);
    let mut health = cooling(start);
    let forced = health.force();
    assert!(!health.failed(forced, FAILURE, &COOLDOWN, later));
    assert_eq!(health.standing(later), Standing::Cooling { until: start + COOLDOWN.time });
    assert!(!health.failed(forced, Blow { is_final: true, wait: Some(seconds(60)) }, &COOLDOWN, later));
    assert_eq!(health.standing(later), Standing::Cooling { until: later + seconds(60) });
    health.answered(forced, &COOLDOWN);
    assert_eq!(health.standing(later), Standing::Ready);
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Claim,
    Answered(usize),
    Succeeded(usize),
    Failed(usize, bool, Option<u8>),
    Abandoned(usize),
    Pass(u8),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Claim),
        1 => (0..8_usize).prop_map(Act::Answered),
        1 => (0..8_usize).prop_map(Act::Succeeded),
        3 => (0..8_usize, prop::bool::weighted(0.2), prop::option::weighted(0.2, 0..90_u8))
            .prop_map(|(at, last, wait)| Act::Failed(at, last, wait)),
        1 => (0..8_usize).prop_map(Act::Abandoned),
        1 => (0..20_u8).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever happens: no leave is given while it cools down, one trial runs at a time, and a cooldown
    /// always ends in leave, at the latest after the longest wait.
    #[test]
    fn nothing_is_let_through_that_should_not_be(acts in prop::collection::vec(any_act(), 1..200)) {
        let mut health = Health::default();
        let mut now = Instant::now();
        let mut open: Vec<Ticket> = Vec::new();
        let mut until: Option<Instant> = None;
        for act in acts {
            let take = |open: &mut Vec<Ticket>, at: usize| {
                if open.is_empty() { None } else { Some(open.swap_remove(at % open.len())) }
            };
            match act {
                Act::Claim => {
                    let trials = open.iter().filter(|t| t.is_trial() && t.round == health.round).count();
                    let standing = health.standing(now);
                    let claimed = health.claim(now);
                    prop_assert_eq!(claimed.is_some(), standing == Standing::Ready);
                    if let Some(ticket) = claimed {
                        prop_assert!(until.is_none_or(|until| now >= until), "it cools down");
                        prop_assert!(trials == 0 || !ticket.is_trial(), "a trial runs");
                        open.push(ticket);
                    }
                }
                Act::Answered(at) => {
                    if let Some(ticket) = take(&mut open, at) {
                        health.answered(ticket, &COOLDOWN);
                        // Still open for its end.
                        open.push(Ticket { is_trial: false, ..ticket });
                    }
                }
                Act::Succeeded(at) => {
                    if let Some(ticket) = take(&mut open, at) {
                        health.answered(ticket, &COOLDOWN);
                        health.succeeded(ticket);
                    }
                }
                Act::Failed(at, is_final, wait) => {
                    if let Some(ticket) = take(&mut open, at) {
                        let round = health.round;
                        let blow = Blow { is_final, wait: wait.map(|n| seconds(n.into())) };
                        let tripped = health.failed(ticket, blow, &COOLDOWN, now);
                        prop_assert_eq!(tripped, health.round != round);
                    }
                }
                Act::Abandoned(at) => {
                    if let Some(ticket) = take(&mut open, at) {
                        health.abandoned(ticket, now);
                    }
                }
                Act::Pass(n) => now += seconds(n.into()),
            }
            until = match health.state {
                State::Cooling { until } => Some(until),
                _ => None,
            };
            prop_assert!(until.is_none_or(|until| until <= now + MAX_WAIT));
        }
        for ticket in open {
            health.abandoned(ticket, now);
        }
        prop_assert!(health.claim(now + MAX_WAIT).is_some(), "no trial is lost: {:?}", health);
    }
}

#[test]
fn a_condition_says_what_standing_does_not() {
    let (mut health, start) = (Health::default(), Instant::now());
    assert_eq!(health.condition(start), Condition::Healthy);
    let until = start + COOLDOWN.time;
    for _ in 0..COOLDOWN.failures {
        health.failed(health.force(), Blow::default(), &COOLDOWN, start);
    }
    assert_eq!(health.condition(start), Condition::Cooling { until });
    assert_eq!(health.condition(until), Condition::Trial, "the next request is the trial");
    let trial = health.claim(until).expect("the cooldown is over");
    assert_eq!(health.condition(until), Condition::Trial);
    health.answered(trial, &COOLDOWN);
    assert_eq!(health.condition(until), Condition::Healthy);
}

#[test]
fn a_channel_is_as_well_as_its_worse_half_and_keys_as_the_best_of_them() {
    let (soon, late) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(9));
    let [soon, late] = [soon, late].map(|until| Condition::Cooling { until });
    for (one, other, both, either) in [
        (Condition::Healthy, Condition::Trial, Condition::Trial, Condition::Healthy),
        (Condition::Healthy, late, late, Condition::Healthy),
        (Condition::Trial, soon, soon, Condition::Trial),
        (soon, late, late, soon),
    ] {
        assert_eq!((one.and(other), other.and(one)), (both, both));
        assert_eq!((one.or(other), other.or(one)), (either, either));
    }
    assert_eq!((soon.name(), soon.until().is_some(), Condition::Trial.until()), ("cooling", true, None));
}

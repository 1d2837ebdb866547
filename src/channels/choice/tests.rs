mod verdicts;

use std::collections::BTreeMap;

use proptest::prelude::*;

use weir_filters::health::Blow;

use super::super::tests::channel;
use super::*;
use crate::config::Failover;

/// In the order of their priorities.
fn in_order(channels: &[config::Channel]) -> Channels {
    let mut channels = channels.to_vec();
    (0..).zip(&mut channels).for_each(|(i, channel)| channel.failover.priority = i);
    Channels::new(&channels, &Registry::default())
}

fn wish<'a>(protocol: Protocol, model: Option<&'a str>, among: &'a [String]) -> Wish<'a> {
    Wish { protocol, model, among, last: None, chance: 7, now: Instant::now() }
}

fn everyone(_: &str) -> bool {
    true
}

fn room(_: &Channel) -> bool {
    true
}

fn name(choice: &Choice) -> &str {
    choice.channel.name()
}

fn channels() -> Channels {
    in_order(&[
        channel("first", Protocol::OpenAi, &["o1-*"]),
        channel("second", Protocol::OpenAi, &["o1-mini", "o3"]),
        channel("claude", Protocol::Anthropic, &["*"]),
    ])
}

fn chosen(model: Option<&str>, among: &[&str], permitted: &str) -> Result<String, NoChannel> {
    let among: Vec<_> = among.iter().map(|&n| n.to_owned()).collect();
    let permits = |name: &str| permitted == "*" || name == permitted;
    let chosen = channels().choose(&wish(Protocol::OpenAi, model, &among), permits, room);
    chosen.map(|choice| name(&choice).to_owned())
}

#[test]
fn the_first_channel_that_serves_the_model_is_chosen() {
    assert_eq!(chosen(Some("o1-mini"), &[], "*"), Ok("first".into()));
    assert_eq!(chosen(Some("o3"), &[], "*"), Ok("second".into()));
    assert_eq!(chosen(Some("gpt-4o"), &[], "*"), Ok("first".into()), "a mapped model is served");
    assert_eq!(chosen(None, &[], "*"), Ok("first".into()));
    assert_eq!(chosen(Some("O3"), &[], "*"), Err(NoChannel::Unserved));
    assert_eq!(chosen(Some("claude-x"), &[], "*"), Err(NoChannel::Unserved), "another dialect");
}

#[test]
fn route_and_key_narrow_the_choice() {
    assert_eq!(chosen(Some("o1-mini"), &["second"], "*"), Ok("second".into()));
    assert_eq!(chosen(Some("o1-mini"), &[], "second"), Ok("second".into()));
    assert_eq!(chosen(Some("o3"), &[], "first"), Err(NoChannel::NotPermitted));
    assert_eq!(chosen(Some("o3"), &["first"], "*"), Err(NoChannel::Unserved));
    assert_eq!(chosen(None, &["second", "claude"], "*"), Ok("second".into()));
    assert_eq!(chosen(None, &["claude"], "*"), Err(NoChannel::Unserved), "routed to another dialect alone");
    assert_eq!(chosen(None, &[], "claude"), Err(NoChannel::NotPermitted));
}

#[test]
fn candidates_come_in_the_order_of_the_configuration_and_once() {
    let channels = in_order(&[
        channel("star", Protocol::OpenAi, &["*"]),
        channel("name", Protocol::OpenAi, &["gpt-4o"]),
        channel("longer", Protocol::OpenAi, &["gpt-4*"]),
        channel("shorter", Protocol::OpenAi, &["gp*"]),
        channel("other", Protocol::OpenAi, &["gpz*", "gpt-5*"]),
        channel("gemini", Protocol::Gemini, &["*"]),
        channel("suffix", Protocol::OpenAi, &["*-mini"]),
        channel("all", Protocol::OpenAi, &["gpt-4o-mini", "gpt-*", "*mini", "gpt-4*-mini", "**"]),
    ]);
    let candidates = |model: Option<&str>| -> Vec<&str> {
        channels.candidates(&wish(Protocol::OpenAi, model, &[])).map(|channel| &**channel.name()).collect()
    };
    assert_eq!(candidates(Some("gpt-4o-mini")), ["star", "longer", "shorter", "suffix", "all"]);
    assert_eq!(
        candidates(Some("gpt-4o")),
        ["star", "name", "longer", "shorter", "other", "suffix", "all"],
        "all of them map it"
    );
    assert_eq!(candidates(Some("gpt-5")), ["star", "shorter", "other", "all"]);
    assert_eq!(candidates(Some("gp")), ["star", "shorter", "all"]);
    assert_eq!(candidates(Some("o3-mini")), ["star", "suffix", "all"]);
    assert_eq!(candidates(Some("")), ["star", "all"]);
    assert_eq!(candidates(None), ["star", "name", "longer", "shorter", "other", "suffix", "all"]);
}

/// What the index must find: whoever serves the model, by a glob or because it maps it.
fn walk<'a>(
    channels: &'a [config::Channel],
    protocol: Protocol,
    model: Option<&'a str>,
    among: &'a [String],
) -> impl Iterator<Item = &'a str> {
    let serves = move |channel: &config::Channel| {
        model.is_none_or(|model| {
            channel.models.iter().any(|glob| glob.matches(model)) || channel.model_map.contains_key(model)
        })
    };
    channels
        .iter()
        .filter(move |channel| channel.protocol == protocol && serves(channel))
        .map(|channel| channel.name.as_str())
        .filter(move |name| among.is_empty() || among.iter().any(|routed| routed == name))
}

fn any_channel() -> impl Strategy<Value = config::Channel> {
    let models = prop::collection::vec("[abé*]{0,4}", 0..5);
    let mapped = prop::collection::vec("[abé*]{0,3}", 0..2);
    (prop::sample::select(&Protocol::ALL[..]), models, mapped).prop_map(|(protocol, models, mapped)| {
        let models: Vec<_> = models.iter().map(String::as_str).collect();
        let model_map: BTreeMap<_, _> = mapped.into_iter().map(|model| (model, "other".to_owned())).collect();
        config::Channel { model_map, ..channel("", protocol, &models) }
    })
}

fn any_channels() -> impl Strategy<Value = Vec<config::Channel>> {
    prop::collection::vec(any_channel(), 0..12).prop_map(|mut channels| {
        channels.iter_mut().enumerate().for_each(|(i, channel)| channel.name = format!("c{i}"));
        channels
    })
}

fn any_names(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec((0..13).prop_map(|i| format!("c{i}")), count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_index_finds_what_a_walk_over_all_channels_finds(
        configured in any_channels(),
        protocol in prop::sample::select(&Protocol::ALL[..]),
        model in prop::option::weighted(0.9, "[abé*]{0,4}"),
        among in prop_oneof![Just(Vec::new()), any_names(1..9)],
        permitted in prop_oneof![Just(None), any_names(0..9).prop_map(Some)],
    ) {
        let channels = in_order(&configured);
        let permits = |name: &str| permitted.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
        let wish = wish(protocol, model.as_deref(), &among);
        let walked: Vec<&str> = walk(&configured, protocol, model.as_deref(), &among).collect();
        let found: Vec<&str> = channels.candidates(&wish).map(|channel| &**channel.name()).collect();
        prop_assert_eq!(&found, &walked);

        let refusal = if walked.is_empty() { NoChannel::Unserved } else { NoChannel::NotPermitted };
        let first = walked.iter().copied().find(|name| permits(name)).ok_or(refusal);
        let chosen = channels.choose(&wish, permits, room);
        prop_assert_eq!(chosen.as_ref().map(name).map_err(|e| *e), first);
        let second = walked.iter().copied().filter(|name| permits(name)).nth(1);
        let next = channels.choose_next(&wish, permits, room, |channel| Ok(&**channel.name()) == first);
        prop_assert_eq!(next.as_ref().map(name), second);
    }
}

const BLOW: Blow = Blow { is_final: true, wait: None };

/// Three channels of two keys that serve the same; the third has a higher priority number.
fn equals(change: impl Fn(&mut Failover)) -> Channels {
    let made = |name: &str, priority, weight| {
        let mut channel = channel(name, Protocol::OpenAi, &["*"]);
        channel.failover = Failover { priority, weight, ..Failover::default() };
        change(&mut channel.failover);
        channel
    };
    Channels::new(&[made("last", 1, 1), made("one", 0, 1), made("three", 0, 3)], &Registry::default())
}

fn counts(channels: &Channels, wish: &Wish<'_>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for chance in 0..4_000 {
        let choice = channels.choose(&Wish { chance, ..*wish }, everyone, room).unwrap();
        *counts.entry(name(&choice).to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn equals_share_by_weight_and_the_rest_waits_for_their_failure() {
    let channels = equals(|_| ());
    let wish = wish(Protocol::OpenAi, Some("m"), &[]);
    let shares = counts(&channels, &wish);
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["one", "three"]);
    assert!(shares["one"].abs_diff(1_000) < 120, "{shares:?}");

    let failed = |failing: &str| {
        let channel = channels.iter().find(|channel| &**channel.name() == failing).unwrap();
        let Choice { mut hold, .. } = channel.claim(wish.now).unwrap();
        assert!(hold.channel_failed(channel, BLOW, wish.now));
    };
    failed("three");
    assert_eq!(counts(&channels, &wish), [("one".to_owned(), 4_000)].into());
    failed("one");
    assert_eq!(counts(&channels, &wish), [("last".to_owned(), 4_000)].into());
    failed("last");
    assert_eq!(counts(&channels, &wish).len(), 1, "the first to recover is asked all the same");
    let next = channels.choose_next(&wish, everyone, room, |_| false);
    assert!(next.is_none(), "but not as a second attempt");

    let later = Wish { now: wish.now + Failover::default().cooldown.time, ..wish };
    let mut trials: Vec<_> = (0..2).map(|_| channels.choose_next(&later, everyone, room, |_| false).unwrap()).collect();
    trials.sort_by_key(|trial| trial.channel.index());
    assert_eq!(trials.iter().map(name).collect::<Vec<_>>(), ["one", "three"], "each has one trial");
}

#[test]
fn a_conversation_stays_at_its_channel_while_that_is_ready() {
    let channels = equals(|_| ());
    let wish = Wish { last: Some("last"), ..wish(Protocol::OpenAi, Some("m"), &[]) };
    assert_eq!(counts(&channels, &wish), [("last".to_owned(), 4_000)].into());
    let Choice { channel, mut hold, .. } = channels.choose(&wish, everyone, room).unwrap();
    assert!(hold.channel_failed(&channel, BLOW, wish.now));
    assert!(!counts(&channels, &wish).contains_key("last"));
    let not_it = channels.choose(&Wish { last: Some("one"), ..wish }, |name| name != "one", room).unwrap();
    assert_eq!(name(&not_it), "three", "the key may not use it");
}

#[test]
fn without_a_model_it_is_always_the_first_in_order() {
    let channels = equals(|_| ());
    let wish = wish(Protocol::OpenAi, None, &[]);
    let mut first = channels.choose(&wish, everyone, room).unwrap();
    assert!(first.hold.channel_failed(&first.channel.clone(), BLOW, wish.now));
    assert_eq!(counts(&channels, &wish), [("one".to_owned(), 4_000)].into());
}

#[test]
fn a_full_channel_is_passed_over_and_if_all_are_full_that_is_the_refusal() {
    let channels = equals(|failover| failover.max_concurrency = 1);
    let wish = wish(Protocol::OpenAi, Some("m"), &[]);
    let held: Vec<_> = (0..3).map(|_| channels.choose(&wish, everyone, room).unwrap()).collect();
    assert_eq!(name(&held[2]), "last");
    assert_eq!(channels.choose(&wish, everyone, room).err(), Some(NoChannel::Busy));
    assert!(channels.choose_next(&wish, everyone, room, |_| false).is_none());
    drop(held);
    let admitted = channels.choose(&wish, everyone, |channel| &**channel.name() == "last").unwrap();
    assert_eq!(name(&admitted), "last");
    assert_eq!(channels.choose(&wish, everyone, |_| false).err(), Some(NoChannel::Busy));
}

#[test]
fn another_way_is_another_channel_or_another_key() {
    let mut single = channel("single", Protocol::OpenAi, &["a"]);
    single.keys.truncate(1);
    let mut other = channel("other", Protocol::OpenAi, &["a", "b"]);
    other.keys.truncate(1);
    let channels = in_order(&[single, other, channel("keys", Protocol::OpenAi, &["c"])]);
    for (model, permitted, expected) in
        [("a", "", true), ("a", "other", false), ("b", "", false), ("c", "", true), ("d", "", false)]
    {
        let permits = |name: &str| permitted.is_empty() || name == permitted;
        let wish = wish(Protocol::OpenAi, Some(model), &[]);
        assert_eq!(channels.has_several(&wish, permits), expected, "{model} {permitted}");
    }
}

#[test]
fn a_drained_channel_gets_nothing_and_others_stand_in() {
    let registry = Registry::default();
    let all = [channel("first", Protocol::OpenAi, &["*"]), channel("second", Protocol::OpenAi, &["o3"])];
    let mut all = all.to_vec();
    (0..).zip(&mut all).for_each(|(i, channel)| channel.failover.priority = i);
    let channels = Channels::new(&all, &registry);
    let chosen = |wish: &Wish<'_>| channels.choose(wish, everyone, room).map(|choice| name(&choice).to_owned());
    let o3 = wish(Protocol::OpenAi, Some("o3"), &[]);
    assert_eq!(chosen(&o3), Ok("first".into()));
    registry.drain("first", true);
    assert_eq!(chosen(&o3), Ok("second".into()));
    assert_eq!(chosen(&Wish { last: Some("first"), ..o3 }), Ok("second".into()), "not for a conversation either");
    let failed = channels.choose_next(&o3, everyone, room, |channel| &**channel.name() == "second");
    assert!(failed.is_none(), "nor after another one failed");
    let o1 = wish(Protocol::OpenAi, Some("o1"), &[]);
    assert_eq!(chosen(&o1), Err(NoChannel::Draining));
    assert_eq!(chosen(&wish(Protocol::OpenAi, None, &[])), Err(NoChannel::Draining), "files are where they are");
    registry.drain("first", false);
    assert_eq!(chosen(&o1), Ok("first".into()));
}

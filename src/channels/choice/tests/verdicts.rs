//! What probes say, and who is asked then.

use weir_filters::monitor::Standing::{Failing, Passing};

use super::*;

fn find<'a>(channels: &'a Channels, name: &str) -> &'a Arc<Channel> {
    channels.iter().find(|channel| &**channel.name() == name).unwrap()
}

/// At all of these.
fn fails(channels: &Channels, names: &[&str]) {
    names.iter().for_each(|name| find(channels, name).restore("m", Failing));
}

fn cools_down(channels: &Channels, name: &str, now: Instant) {
    let channel = find(channels, name);
    assert!(channel.force(now).unwrap().hold.channel_failed(channel, BLOW, now));
}

fn of(model: &str) -> Wish<'_> {
    wish(Protocol::OpenAi, Some(model), &[])
}

/// Who is asked after those of these names.
fn next(channels: &Channels, wish: &Wish<'_>, tried: &[&str]) -> Option<String> {
    let next = channels.choose_next(wish, everyone, room, |channel| tried.contains(&&**channel.name()));
    next.map(|choice| name(&choice).to_owned())
}

#[test]
fn a_channel_where_the_model_fails_gives_way_to_equals_and_to_those_behind_it() {
    let (channels, wish) = (equals(|_| ()), of("m"));
    fails(&channels, &["three"]);
    assert_eq!(counts(&channels, &wish), [("one".to_owned(), 4_000)].into(), "its share is the other's");
    fails(&channels, &["one"]);
    assert_eq!(counts(&channels, &wish), [("last".to_owned(), 4_000)].into(), "a higher number does as well");
    let others = counts(&channels, &of("n"));
    assert_eq!(others.keys().collect::<Vec<_>>(), ["one", "three"], "other models have not moved");
    find(&channels, "three").restore("m", Passing);
    assert_eq!(counts(&channels, &wish), [("three".to_owned(), 4_000)].into());
}

#[test]
fn if_it_fails_everywhere_all_is_as_without_probes() {
    let (channels, wish) = (equals(|_| ()), of("m"));
    let before = counts(&channels, &wish);
    fails(&channels, &["one", "three", "last"]);
    assert_eq!(counts(&channels, &wish), before);
    let at_last = Wish { last: Some("last"), ..wish };
    assert_eq!(counts(&channels, &at_last), [("last".to_owned(), 4_000)].into(), "conversations stay as well");
    let permitted = channels.choose(&wish, |name| name == "three", room).unwrap();
    assert_eq!(name(&permitted), "three");
    assert_eq!(next(&channels, &wish, &["one", "three"]).as_deref(), Some("last"));
    assert_eq!(next(&channels, &wish, &["one", "three", "last"]), None);
}

#[test]
fn the_only_channel_that_the_key_or_the_route_leaves_is_asked() {
    let (channels, wish) = (equals(|_| ()), of("m"));
    fails(&channels, &["one"]);
    assert_eq!(name(&channels.choose(&wish, |name| name == "one", room).unwrap()), "one");
    let among = ["one".to_owned()];
    assert_eq!(name(&channels.choose(&Wish { among: &among, ..wish }, everyone, room).unwrap()), "one");
    let nobody = channels.choose(&wish, |_| false, room);
    assert_eq!(nobody.err(), Some(NoChannel::NotPermitted), "the refusal is the same");
}

#[test]
fn a_conversation_leaves_a_channel_where_its_model_fails() {
    let channels = equals(|_| ());
    let wish = Wish { last: Some("last"), ..of("m") };
    assert_eq!(counts(&channels, &wish), [("last".to_owned(), 4_000)].into());
    fails(&channels, &["last"]);
    assert_eq!(counts(&channels, &wish).into_keys().collect::<Vec<_>>(), ["one", "three"]);
    let other = Wish { last: Some("last"), ..of("n") };
    assert_eq!(counts(&channels, &other), [("last".to_owned(), 4_000)].into());
}

#[test]
fn one_that_cools_down_comes_before_one_where_the_model_fails() {
    let (channels, wish) = (equals(|_| ()), of("m"));
    fails(&channels, &["one", "three"]);
    cools_down(&channels, "last", wish.now);
    assert_eq!(counts(&channels, &wish), [("last".to_owned(), 4_000)].into());
    // It cannot be a second attempt, so that nothing is there that would be better.
    assert!(matches!(next(&channels, &wish, &["last"]).as_deref(), Some("one" | "three")));
    assert!(matches!(next(&channels, &wish, &[]).as_deref(), Some("one" | "three")));
    assert_eq!(next(&channels, &wish, &["one"]).as_deref(), Some("three"));
}

#[test]
fn after_a_failure_those_that_pass_are_asked_first() {
    let (channels, wish) = (equals(|_| ()), of("m"));
    fails(&channels, &["one"]);
    assert_eq!(next(&channels, &wish, &["three"]).as_deref(), Some("last"));
    assert_eq!(next(&channels, &wish, &["three", "last"]).as_deref(), Some("one"));
}

#[test]
fn if_those_that_pass_have_no_room_it_is_asked_all_the_same() {
    let (channels, wish) = (equals(|failover| failover.max_concurrency = 1), of("m"));
    fails(&channels, &["one"]);
    let choose = || channels.choose(&wish, everyone, room);
    let held = [(); 3].map(|()| choose().unwrap());
    assert_eq!(held.each_ref().map(name), ["three", "last", "one"]);
    assert_eq!(choose().err(), Some(NoChannel::Busy));
    drop(held);
    let limited = |channel: &Channel| &**channel.name() == "one";
    assert_eq!(name(&channels.choose(&wish, everyone, limited).unwrap()), "one", "by whatever has no room");
    let after = channels.choose_next(&wish, everyone, limited, |channel| &**channel.name() == "three").unwrap();
    assert_eq!(name(&after), "one");
}

#[test]
fn a_drained_channel_stands_in_for_nobody() {
    let registry = Registry::default();
    let all = ["first", "second"].map(|name| channel(name, Protocol::OpenAi, &["*"]));
    let channels = Channels::new(&all, &registry);
    fails(&channels, &["first"]);
    registry.drain("second", true);
    assert_eq!(name(&channels.choose(&of("m"), everyone, room).unwrap()), "first");
    registry.drain("first", true);
    assert_eq!(channels.choose(&of("m"), everyone, room).err(), Some(NoChannel::Draining));
}

#[test]
fn requests_without_a_model_go_where_they_went() {
    let channels = equals(|_| ());
    find(&channels, "one").restore("", Failing);
    fails(&channels, &["one"]);
    assert_eq!(counts(&channels, &wish(Protocol::OpenAi, None, &[])), [("one".to_owned(), 4_000)].into());
}

#[test]
fn a_channel_where_the_model_fails_is_still_another_way() {
    let (channels, wish) = (equals(|_| ()), of("m"));
    fails(&channels, &["one", "three", "last"]);
    assert!(channels.has_several(&wish, everyone));
}

/// What a channel of the test below is like.
#[derive(Clone, Copy, Debug)]
struct Like {
    priority: u32,
    weight: u32,
    is_failing: bool,
    cools_down: bool,
    is_full: bool,
    is_permitted: bool,
    was_tried: bool,
}

fn any_like() -> impl Strategy<Value = Like> {
    let rarely = || prop::bool::weighted(0.2);
    (0..3_u32, 1..4_u32, any::<bool>(), any::<bool>(), rarely(), prop::bool::weighted(0.8), rarely()).prop_map(
        |(priority, weight, is_failing, cools_down, is_full, is_permitted, was_tried)| Like {
            priority,
            weight,
            is_failing,
            cools_down,
            is_full,
            is_permitted,
            was_tried,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn probes_refuse_nobody_and_lead_to_a_channel_that_passes_if_one_can_be_asked(
        likes in prop::collection::vec(any_like(), 0..6),
        last in prop::option::of(0..6_usize),
        chance in any::<u64>(),
    ) {
        let configured: Vec<_> = (0..).zip(&likes).map(|(i, like)| {
            let mut channel = channel(&format!("c{i}"), Protocol::OpenAi, &["m"]);
            let (priority, weight) = (like.priority, like.weight);
            channel.failover = Failover { priority, weight, max_concurrency: 1, ..Failover::default() };
            channel
        }).collect();
        let like = |name: &str| likes[name[1..].parse::<usize>().unwrap()];
        let last = last.map(|i| format!("c{i}"));
        let wish = Wish { last: last.as_deref(), chance, ..of("m") };
        // First as it is without probes, then with them.
        let [without, with] = [false, true].map(|is_probed| {
            let channels = Channels::new(&configured, &Registry::default());
            let mut held = Vec::new();
            for channel in channels.iter() {
                if like(channel.name()).cools_down {
                    cools_down(&channels, channel.name(), wish.now);
                }
                if like(channel.name()).is_full {
                    held.extend(channel.force(wish.now));
                }
                if is_probed && like(channel.name()).is_failing {
                    channel.restore("m", Failing);
                }
            }
            let permits = |name: &str| like(name).is_permitted;
            let chosen = channels.choose(&wish, permits, room).map(|choice| name(&choice).to_owned());
            let tried = |channel: &Channel| like(channel.name()).was_tried;
            let next = channels.choose_next(&wish, permits, room, tried).map(|choice| name(&choice).to_owned());
            (chosen, next)
        });
        prop_assert_eq!(without.0.as_ref().err(), with.0.as_ref().err());
        prop_assert_eq!(without.1.is_some(), with.1.is_some());

        let can_be_asked = |like: &&Like| like.is_permitted && !like.is_full;
        if let Ok(chosen) = &with.0 {
            let is_any_sound = likes.iter().filter(can_be_asked).any(|like| !like.is_failing);
            prop_assert_eq!(like(chosen).is_failing, !is_any_sound);
        }
        if let Some(next) = &with.1 {
            let mut ready = likes.iter().filter(can_be_asked).filter(|like| !like.was_tried && !like.cools_down);
            prop_assert_eq!(like(next).is_failing, !ready.any(|like| !like.is_failing));
        }
    }
}

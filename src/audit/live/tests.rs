//! Who follows, comes back, is slow, or is gone.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::super::batch::batch_of;
use super::*;

/// What is heard of a batch of two, and of others by their place: `7 8`, `config 3`, `missed 4`.
struct Ear(Following, Filter);

impl Ear {
    fn new(live: &Live, filter: &Filter, after: Option<&str>) -> Self {
        Self(live.follow(filter, after).expect("there is room"), filter.clone())
    }

    fn all(live: &Live, after: Option<&str>) -> Self {
        Self::new(live, &Filter::default(), after)
    }

    /// What is there to be heard now, and whether more may come.
    fn hears(&mut self) -> (Vec<String>, bool) {
        let mut all = Vec::new();
        loop {
            match self.next() {
                Poll::Ready(Some(heard)) => all.push(self.said(&heard)),
                Poll::Ready(None) => return (all, false),
                Poll::Pending => return (all, true),
            }
        }
    }

    fn next(&mut self) -> Poll<Option<Heard>> {
        pin!(self.0.next()).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn said(&self, heard: &Heard) -> String {
        match heard {
            Heard::Records(records) => {
                let lines = records.lines(&self.1).map(|(id, line)| format!("{}={}", id.number, line.len()));
                lines.collect::<Vec<_>>().join(" ")
            }
            Heard::Event(id, event) => format!("{}={}", id.number, event.data()),
            Heard::Missed(id, records) => format!("{} missed {records:?}", id.number),
        }
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }
}

fn later(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Tells of records of a key, each of so many bytes.
fn end(live: &Live, key: &str, count: u128, bytes: usize, now: Instant) {
    let name = format!("{{\"key_name\":\"{key}\",\"x\":\"");
    let line = format!("{name}{}\"}}", "x".repeat(bytes - name.len() - 2));
    live.publish_records(&batch_of((0..count).map(|id| (&*line, id))), now);
}

fn of(key: &str) -> Filter {
    let mut filter = Filter::default();
    filter.key(key);
    filter
}

#[test]
fn each_follower_hears_all_that_comes_and_that_it_wants() {
    let (live, now) = (Live::default(), Instant::now());
    end(&live, "alice", 2, 50, now);
    let (mut all, mut bob) = (Ear::all(&live, None), Ear::new(&live, &of("bob"), None));
    assert_eq!(all.hears(), (vec![], true), "what was before is not told");
    end(&live, "alice", 2, 50, now);
    live.publish(Event::ConfigReloaded(3));
    end(&live, "bob", 1, 60, now);
    let expected = ["1=50 2=50", "3={\"version\":3}", "4=60"];
    assert_eq!(all.hears(), (expected.map(str::to_owned).to_vec(), true));
    assert_eq!(bob.hears().0, ["", "3={\"version\":3}", "4=60"]);
    live.publish(Event::ChannelUpdated("{}".into()));
    live.end();
    assert_eq!(all.hears(), (vec!["5={}".to_owned()], false), "what is there is heard before the end");
}

#[test]
fn who_comes_back_goes_on_behind_any_event_even_one_that_it_did_not_want() {
    let (live, now) = (Live::default(), Instant::now());
    let mut ear = Ear::new(&live, &of("bob"), None);
    let before = ear.id();
    end(&live, "alice", 3, 50, now);
    assert_eq!(ear.hears().0, [""]);
    let after = ear.id();
    drop(ear);
    end(&live, "bob", 2, 60, now);
    assert_eq!(Ear::new(&live, &of("bob"), Some(&after)).hears().0, ["4=60 5=60"]);
    assert_eq!(Ear::all(&live, Some(&before)).hears().0, ["1=50 2=50 3=50", "4=60 5=60"]);
    let middle = after.replace("-3", "-2");
    assert_eq!(Ear::all(&live, Some(&middle)).hears().0, ["3=50", "4=60 5=60"], "from the middle of a batch");
    assert_eq!(Ear::all(&live, Some(&after.replace("-3", "-5"))).hears().0, [] as [String; 0]);
}

#[test]
fn an_id_that_is_none_of_these_is_told_that_something_was_missed_once() {
    let (live, other, now) = (Live::default(), Live::default(), Instant::now());
    let ear = Ear::all(&live, None);
    end(&live, "alice", 3, 50, now);
    let (own, foreign) = (ear.id(), Ear::all(&other, None).id());
    assert_ne!(own, foreign);
    for id in [&*foreign, &own.replace("-0", "-4"), "", "garbage", "0123456789abcdef0123456789abcdef", "\u{fffd}"] {
        let mut ear = Ear::all(&live, Some(id));
        assert_eq!(ear.hears(), (vec!["3 missed None".to_owned()], true), "{id}");
        assert_eq!(ear.hears().0, [] as [String; 0], "{id}");
        assert_eq!(Ear::all(&live, Some(&ear.id())).hears().0, [] as [String; 0], "it goes on behind that");
    }
}

#[test]
fn who_reads_too_slowly_is_told_what_it_missed_of_what_it_wants() {
    let (live, now) = (Live::default(), Instant::now());
    let (mut slow, mut bob, mut carol) =
        (Ear::all(&live, None), Ear::new(&live, &of("bob"), None), Ear::new(&live, &of("carol"), None));
    end(&live, "bob", 2, 100, now);
    end(&live, "alice", 7, 1 << 20, now);
    end(&live, "alice", 15, 1 << 20, now);
    assert_eq!(slow.hears().0[0], "9 missed Some(9)");
    assert_eq!(bob.hears().0, ["9 missed Some(2)", ""]);
    assert_eq!(carol.hears().0, [""], "it would not have heard of them");
    let lost = slow.id().replace("-24", "-1");
    assert_eq!(Ear::all(&live, Some(&lost)).hears().0, ["24 missed None"], "nobody has counted for who comes back");
    live.publish(Event::ConfigReloaded(2));
    end(&live, "bob", 17, 1 << 20, now);
    assert_eq!(carol.hears().0[0], "25 missed Some(0)", "an event beside records is missed too");
}

#[test]
fn records_that_were_lost_on_the_way_are_missed_where_they_would_have_been() {
    let (live, now) = (Live::default(), Instant::now());
    let mut ear = Ear::all(&live, None);
    let begun = ear.id();
    end(&live, "alice", 1, 50, now);
    live.publish_loss(now);
    end(&live, "alice", 1, 50, now);
    let expected = ["1=50", "2 missed None", "3=50"];
    assert_eq!(ear.hears().0, expected);
    assert_eq!(Ear::all(&live, Some(&begun)).hears().0, expected, "and for who comes back");
    let mut slow = Ear::all(&live, Some(&begun));
    end(&live, "alice", 17, 1 << 20, now);
    assert_eq!(slow.hears().0[0], "3 missed None");
}

#[test]
fn what_falls_out_while_somebody_is_between_two_records_is_counted_from_there() {
    let (live, now) = (Live::default(), Instant::now());
    let id = Ear::all(&live, None).id();
    end(&live, "alice", 5, 100, now);
    let mut ear = Ear::all(&live, Some(&id.replace("-0", "-2")));
    end(&live, "alice", 17, 1 << 20, now);
    assert_eq!(ear.hears().0[0], "5 missed Some(3)");
}

#[test]
fn nothing_is_kept_unless_somebody_follows_or_has_a_while_ago() {
    let (live, now) = (Live::default(), Instant::now());
    assert!(!live.is_watched());
    let ear = Ear::all(&live, None);
    let id = ear.id();
    drop(ear);
    live.tidy(now + later(119));
    assert!(live.is_watched());
    end(&live, "alice", 1, 50, now + later(119));
    assert_eq!(Ear::all(&live, Some(&id)).hears().0, ["1=50"]);
    let gone = Instant::now() + MAX_AGE;
    live.tidy(gone);
    assert!(!live.is_watched());
    live.publish(Event::ConfigReloaded(2));
    assert_eq!(Ear::all(&live, Some(&id.replace("-0", "-1"))).hears().0, ["2 missed None"], "nobody has listened");
    assert!(live.is_watched());
}

#[test]
fn who_takes_nothing_for_a_minute_is_let_go_and_makes_room() {
    let (live, now) = (Live::default(), Instant::now());
    let mut all: Vec<_> = std::iter::from_fn(|| live.follow(&Filter::default(), None)).collect();
    assert_eq!(all.len(), MAX_FOLLOWERS);
    live.tidy(now + later(3600));
    assert!(live.follow(&Filter::default(), None).is_none(), "who has nothing to take is not slow");
    end(&live, "alice", 1, 50, now + later(3600));
    let mut reads = Ear(all.pop().unwrap(), Filter::default());
    assert_eq!(reads.hears().0, ["1=50"]);
    live.tidy(now + later(3659));
    assert!(live.follow(&Filter::default(), None).is_none());
    live.tidy(now + later(3660));
    assert!(live.follow(&Filter::default(), None).is_some());
    assert_eq!(reads.hears(), (vec![], true));
    assert_eq!(Ear(all.pop().unwrap(), Filter::default()).hears(), (vec![], false));
}

#[tokio::test]
async fn who_waits_is_woken() {
    let live = Live::default();
    let mut ear = Ear::all(&live, None);
    let teller = live.clone();
    let tells = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        teller.publish(Event::ConfigReloaded(2));
    });
    assert!(matches!(ear.0.next().await, Some(Heard::Event(_, Event::ConfigReloaded(2)))));
    tells.join().unwrap();
}

/// What many threads tell is heard by each of many followers once and in order, however often they go and come back.
#[test]
fn nothing_is_lost_nor_heard_twice_whoever_comes_and_goes() {
    let live = Live::default();
    let id = Ear::all(&live, None).id();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for n in 0..200 {
                    end(&live, "alice", 1 + n % 3, 50, Instant::now());
                    live.publish(Event::ConfigReloaded(1));
                }
            });
        }
        for step in 1..5_usize {
            let (live, mut id) = (&live, id.clone());
            scope.spawn(move || {
                let mut numbers = Vec::new();
                // Each thread tells of 399 records in all, and 200 times of a configuration.
                while numbers.len() < 3 * (399 + 200) {
                    let mut ear = Ear::all(live, Some(&id));
                    for _ in 0..step {
                        if let Poll::Ready(Some(heard)) = ear.next() {
                            match heard {
                                Heard::Records(records) => {
                                    numbers.extend(records.lines(&Filter::default()).map(|(id, _)| id.number));
                                }
                                Heard::Event(id, _) => numbers.push(id.number),
                                Heard::Missed(..) => panic!("nothing may be missed"),
                            }
                        }
                    }
                    id = ear.id();
                }
                assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
            });
        }
    });
}

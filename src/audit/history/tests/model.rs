//! Random records, questions and disasters, against a plain list.

use std::fs::{self, OpenOptions};
use std::io::Write;

use proptest::prelude::*;

use super::super::*;
use super::scene::{NOW, Record, Running, until};
use super::*;

#[derive(Clone, Debug)]
enum Act {
    Give(Vec<Draft>),
    Ask(Question, usize),
    Restart,
    Kill { tears: bool, loses_index: bool },
    Wait(u64),
}

/// A record without its id.
#[derive(Clone, Debug)]
struct Draft {
    late_ms: u64,
    status: u16,
    names: [usize; 4],
    ballast: usize,
}

#[derive(Clone, Debug)]
struct Question {
    names: [Option<usize>; 4],
    status: Option<StatusFilter>,
    from: Option<u64>,
    to: Option<u64>,
}

const SEGMENT: usize = 9;
const STATUSES: [u16; 6] = [0, 200, 201, 404, 429, 503];

fn name(dimension: usize, number: usize) -> String {
    // One is the absent one.
    if number == 0 { String::new() } else { format!("{}-{number}", table::NAMES[dimension]) }
}

fn any_draft() -> impl Strategy<Value = Draft> {
    let status = prop::sample::select(&STATUSES[..]);
    (0_u64..5000, status, [0_usize..20, 0..5, 0..3, 0..2], prop_oneof![9 => 0_usize..50, 1 => 0_usize..5000])
        .prop_map(|(late_ms, status, names, ballast)| Draft { late_ms, status, names, ballast })
}

fn any_question() -> impl Strategy<Value = Question> {
    let status = prop_oneof![
        prop::sample::select(&STATUSES[1..]).prop_map(StatusFilter::Is),
        (2_u16..6).prop_map(StatusFilter::Class),
        Just(StatusFilter::None)
    ];
    let names = (
        prop::option::weighted(0.3, 1_usize..21),
        prop::option::weighted(0.3, 1_usize..6),
        prop::option::weighted(0.3, 1_usize..4),
        prop::option::weighted(0.3, 1_usize..3),
    );
    let time = || prop::option::weighted(0.3, 0_u64..80_000);
    (names, prop::option::weighted(0.3, status), time(), time()).prop_map(|((k, u, m, c), status, from, to)| Question {
        names: [k, u, m, c],
        status,
        from,
        to,
    })
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => prop::collection::vec(any_draft(), 1..30).prop_map(Act::Give),
        8 => (any_question(), 1_usize..12).prop_map(|(question, limit)| Act::Ask(question, limit)),
        1 => Just(Act::Restart),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(tears, loses_index)| Act::Kill { tears, loses_index }),
        2 => (0_u64..20_000).prop_map(Act::Wait),
    ]
}

struct Model {
    scene: Scene,
    running: Option<Running>,
    given: Vec<Record>,
}

impl Model {
    fn new() -> Self {
        let mut scene = Scene::with_segments_of(SEGMENT);
        scene.config.keep = Duration::from_secs(60);
        scene.config.max_total = 300 << 10;
        let running = Some(scene.started());
        Self { scene, running, given: Vec::new() }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn now(&self) -> u64 {
        self.scene.now.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        match act {
            Act::Give(drafts) => {
                let (first, now) = (self.given.len(), self.now());
                let records = drafts.into_iter().enumerate().map(|(n, draft)| Record {
                    id: (first + n) as u128,
                    time_ms: now - draft.late_ms,
                    status: draft.status,
                    names: std::array::from_fn(|d| name(d, draft.names[d])),
                    ballast: draft.ballast,
                });
                let records: Vec<Record> = records.collect();
                self.running().give(&records);
                self.given.extend(records);
            }
            Act::Ask(question, limit) => self.ask(&question, limit)?,
            Act::Restart => {
                self.running.take().unwrap().stop();
                self.running = Some(self.scene.started());
            }
            Act::Kill { tears, loses_index } => {
                self.running.take().unwrap().kill();
                if let (true, Some(path)) = (tears, self.scene.segments().last()) {
                    OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"schema_version\":1,").unwrap();
                }
                if loses_index {
                    let _ = fs::remove_dir_all(self.scene.directory().join("index"));
                }
                self.running = Some(self.scene.started());
            }
            Act::Wait(ms) => self.scene.advance(Duration::from_millis(ms)),
        }
        Ok(())
    }

    fn ask(&self, question: &Question, limit: usize) -> Result<(), TestCaseError> {
        let text = |d: usize| question.names[d].map(|number| name(d, number));
        let query = Query {
            key_id: None,
            key: text(0),
            user: text(1),
            model: text(2),
            channel: text(3),
            status: question.status,
            from: question.from.map(|ms| NOW + ms),
            to: question.to.map(|ms| NOW + ms),
            limit,
            cursor: None,
        };
        // What is still there is what came last, without gaps: it only goes from the other end.
        let everything = || self.running().all_ids();
        let (before, ids, after) = (everything(), self.running().ids(&query), everything());
        let kept_from = self.now() - 60_000;
        let in_time: Vec<u128> =
            self.given.iter().rev().filter(|record| record.time_ms >= kept_from).map(|record| record.id).collect();
        prop_assert!(in_time.starts_with(&before), "{before:?}");
        prop_assert!(before.starts_with(&after), "records go from the old end only");
        let is_asked = |record: &&Record| {
            let named = (0..4).all(|d| text(d).is_none_or(|name| name == record.names[d]));
            let status = question.status.is_none_or(|status| match status {
                StatusFilter::Is(is) => record.status == is,
                StatusFilter::Class(class) => record.status / 100 == class,
                StatusFilter::None => record.status == 0,
            });
            let from = query.from.is_none_or(|from| record.time_ms >= from);
            named && status && from && query.to.is_none_or(|to| record.time_ms < to)
        };
        let expected = |ids: &[u128]| -> Vec<u128> {
            let asked = |id: &&u128| is_asked(&&self.given[usize::try_from(**id).unwrap()]);
            ids.iter().filter(asked).copied().collect()
        };
        let (most, least) = (expected(&before), expected(&after));
        prop_assert!(most.starts_with(&ids) && ids.starts_with(&least), "{query:?}: {ids:?}, not {most:?}");
        Ok(())
    }

    /// The bounds hold once everything is done.
    fn check(&self) -> Result<(), TestCaseError> {
        self.running().settle();
        until(|| self.scene.bytes() <= 300 << 10);
        let all = self.running().all_ids();
        let size: usize = all.iter().map(|id| self.given[usize::try_from(*id).unwrap()].line().len()).sum();
        prop_assert!(size <= 300 << 10);
        for id in all.iter().step_by(7) {
            let record = &self.given[usize::try_from(*id).unwrap()];
            prop_assert_eq!(self.running().history.find(*id), Ok(Some(record.line())));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_are_what_a_list_says(acts in prop::collection::vec(any_act(), 1..40)) {
        let mut model = Model::new();
        for act in acts {
            model.act(act)?;
        }
        model.check()?;
    }
}

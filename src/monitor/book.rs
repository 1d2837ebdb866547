//! What is known of runs and probes: it follows from the lines, whether they were just written or are read at a start.
//!
//! Owns what each line changes, so that a process that was killed and its successor know the same. It refuses to know who
//! writes the lines.

use std::collections::{BTreeMap, HashMap, HashSet};

use weir_filters::calendar::DAY_MS;
use weir_filters::monitor::{Point, RunState, Schedule, Series, Spent, Standing};

use super::line::{Begun, Done, Finished, Head, Line, Shown};
use super::store::Place;

/// What is known, by channel.
#[derive(Debug, Default)]
pub(super) struct Book(HashMap<String, Course>);

/// What is known of a channel.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The last run that had a slot.
    last_slot: Option<Head>,
    pub(super) last_run: Option<(u64, RunState)>,
    pub(super) models: BTreeMap<String, Known>,
    /// Runs that are over, oldest first.
    pub(super) runs: Vec<Place>,
    /// Runs that are not, by id.
    pub(super) open: BTreeMap<String, Open>,
    spent: Day,
}

/// What is known of a model.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) series: Series,
    pub(super) standing: Standing,
}

/// A run that is not over.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) head: Head,
    /// Probes that have no result yet, by model.
    pub(super) begun: HashMap<String, Begun>,
    pub(super) results: Vec<Shown>,
}

impl Course {
    /// The last slot that had a run, of a schedule. Slots of another length have other numbers: that of the same time stands
    /// for it.
    pub(super) fn last_slot_of(&self, schedule: &Schedule, every_ms: u64) -> Option<u64> {
        let head = self.last_slot.as_ref()?;
        Some(head.slot.filter(|_| head.every_ms == every_ms).unwrap_or_else(|| schedule.slot(head.begun_at)))
    }
}

impl Open {
    /// Models that are not to be asked again.
    pub(super) fn touched(&self) -> HashSet<String> {
        self.begun.keys().cloned().chain(self.results.iter().map(|result| result.model.clone())).collect()
    }
}

/// What was used in a day of UTC.
#[derive(Clone, Copy, Debug, Default)]
struct Day {
    number: u64,
    spent: Spent,
}

impl Day {
    /// A probe counts on the day on which it began.
    fn add(&mut self, at_ms: u64, more: Spent) {
        let number = at_ms / DAY_MS;
        if number > self.number {
            *self = Self { number, spent: Spent::default() };
        }
        if number == self.number {
            self.spent = self.spent.and(more);
        }
    }

    fn settle(&mut self, begun_ms: u64, reserved: Spent, used: Spent) {
        if begun_ms / DAY_MS == self.number {
            self.spent = self.spent.less(reserved).and(used);
        }
    }
}

impl Course {
    /// What was used, or is set aside, on the day of `now_ms`.
    pub(super) fn spent(&self, now_ms: u64) -> Spent {
        if self.spent.number == now_ms / DAY_MS { self.spent.spent } else { Spent::default() }
    }

    fn open(&mut self, head: &Head) -> &mut Open {
        if head.slot.is_some() && self.last_slot.as_ref().is_none_or(|last| last.begun_at <= head.begun_at) {
            self.last_slot = Some(head.clone());
        }
        let new = || Open { head: head.clone(), begun: HashMap::new(), results: Vec::new() };
        self.open.entry(head.id.clone()).or_insert_with(new)
    }

    fn result(&mut self, done: &Done) {
        let open = self.open(&done.run);
        let begun = open.begun.remove(&done.result.model);
        open.results.retain(|result| result.model != done.result.model);
        open.results.push(done.result.clone());
        if let Some(begun) = begun {
            self.spent.settle(begun.at, begun.reserved.into(), done.spent.into());
        }
        let known = self.models.entry(done.result.model.clone()).or_default();
        known.standing = standing(&done.standing);
        let Shown { skipped: None, error, first_token_ms, total_ms, .. } = &done.result else { return };
        known.series.push(Point {
            time_ms: done.at,
            bad: error.as_ref().map(|error| code(&error.code)),
            first_token_us: first_token_ms.map(micros),
            total_us: total_ms.map(micros).unwrap_or_default(),
        });
    }

    fn finished(&mut self, place: Place, run: &Finished) {
        self.open.remove(&run.run.id);
        if run.run.slot.is_some() && self.last_slot.as_ref().is_none_or(|last| last.begun_at <= run.run.begun_at) {
            self.last_slot = Some(run.run.clone());
        }
        let state = run.state();
        self.last_run = Some((run.run.begun_at, state));
        self.runs.push(place);
        // Where no list could be had, it is not known which are gone.
        if state == RunState::NoModels || !run.results.is_empty() {
            let named: HashSet<&str> = run.results.iter().map(|result| &*result.model).collect();
            self.models.retain(|model, _| named.contains(&**model));
        }
    }
}

impl Book {
    /// Takes a line that is written at `place`.
    pub(super) fn take(&mut self, place: Place, line: &Line) {
        match line {
            Line::Begun(begun) => {
                let course = self.course(&begun.run.channel);
                course.spent.add(begun.at, begun.reserved.into());
                course.open(&begun.run).begun.insert(begun.model.clone(), begun.clone());
            }
            Line::Result(done) => self.course(&done.run.channel).result(done),
            Line::Run(run) => self.course(&run.run.channel).finished(place, run),
        }
    }

    /// A run is about to begin: it is seen before its first line.
    pub(super) fn opens(&mut self, head: &Head) {
        self.course(&head.channel).open(head);
    }

    /// Files before this one are gone.
    pub(super) fn forget_before(&mut self, file: u32) {
        for course in self.0.values_mut() {
            let gone = course.runs.partition_point(|place| place.file < file);
            course.runs.drain(..gone);
        }
    }

    pub(super) fn course(&mut self, channel: &str) -> &mut Course {
        if !self.0.contains_key(channel) {
            self.0.insert(channel.to_owned(), Course::default());
        }
        self.0.get_mut(channel).expect("it was just put there")
    }

    pub(super) fn of(&self, channel: &str) -> Option<&Course> {
        self.0.get(channel)
    }

    /// Every run that is not over.
    pub(super) fn all_open(&self) -> Vec<Open> {
        self.0.values().flat_map(|course| course.open.values().cloned()).collect()
    }

    /// All results that are kept, the oldest of a model first.
    pub(super) fn points(&self) -> impl Iterator<Item = (&str, &str, &Point)> {
        self.0.iter().flat_map(|(channel, course)| {
            course.models.iter().flat_map(move |(model, known)| {
                known.series.iter().map(move |point| (channel.as_str(), model.as_str(), point))
            })
        })
    }

    /// What is known of every model of every channel.
    pub(super) fn standings(&self) -> impl Iterator<Item = (&str, &str, Standing)> {
        self.0.iter().flat_map(|(channel, course)| {
            course.models.iter().map(move |(model, known)| (channel.as_str(), model.as_str(), known.standing))
        })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "more than an hour is shown as that")]
fn micros(ms: f64) -> u32 {
    (ms * 1000.0).clamp(0.0, f64::from(u32::MAX)) as u32
}

fn standing(name: &str) -> Standing {
    let all = [Standing::Passing, Standing::Failing];
    all.into_iter().find(|one| one.name() == name).unwrap_or_default()
}

/// The words of `weir_filters::probe::judge`, which live as long as the program.
fn code(word: &str) -> &'static str {
    const CODES: [&str; 12] = [
        "address",
        "connect",
        "timeout",
        "too_large",
        "broken",
        "key_refused",
        "not_found",
        "rate_limited",
        "server_error",
        "refused",
        "error_inside",
        "empty",
    ];
    CODES.into_iter().find(|code| *code == word).unwrap_or("failed")
}

#[cfg(test)]
mod tests {
    use super::super::line::{Amount, Reason};
    use super::*;

    const AT: Place = Place { file: 1, offset: 0 };
    const NOW: u64 = 20_000 * DAY_MS + 5;

    fn head(id: &str, slot: Option<u64>) -> Head {
        let reason = if slot.is_some() { Reason::Schedule } else { Reason::Manual };
        Head { id: id.into(), channel: "c".into(), slot, every_ms: 1000, begun_at: NOW, reason }
    }

    fn begun(id: &str, model: &str, tokens: u64) -> Line {
        let reserved = Amount { tokens, nano_usd: 0 };
        Line::Begun(Begun { run: head(id, Some(7)), model: model.into(), at: NOW, reserved })
    }

    fn done(id: &str, model: &str, tokens: u64) -> Line {
        Line::Result(Done {
            run: head(id, Some(7)),
            at: NOW + 9,
            spent: Amount { tokens, nano_usd: 0 },
            standing: "passing".into(),
            result: Shown { ok: true, total_ms: Some(2.5), ..Shown::by_traffic(model) },
        })
    }

    fn of(lines: &[Line]) -> Book {
        let mut book = Book::default();
        lines.iter().for_each(|line| book.take(AT, line));
        book
    }

    #[test]
    fn what_began_is_set_aside_until_it_is_known_and_is_not_asked_again() {
        let mut book = of(&[begun("r", "a", 60), begun("r", "b", 60), done("r", "a", 11)]);
        let course = book.course("c");
        assert_eq!(course.spent(NOW).tokens, 71);
        assert_eq!(course.spent(NOW + DAY_MS).tokens, 0, "the next day has its own");
        assert_eq!(course.open["r"].touched(), ["a", "b"].map(str::to_owned).into());
        assert_eq!(course.last_slot.as_ref().and_then(|head| head.slot), Some(7));
        assert_eq!(course.models["a"].series.last().map(|point| point.total_us), Some(2500));
    }

    #[test]
    fn a_run_that_is_over_leaves_its_place_and_forgets_models_that_are_gone() {
        let results = vec![Shown::by_traffic("a")];
        let run = Finished { run: head("r", Some(7)), ended_at: NOW + 20, state: "healthy".into(), results };
        let lines = [begun("q", "old", 5), done("q", "old", 5), begun("r", "a", 5), done("r", "a", 5), Line::Run(run)];
        let mut book = of(&lines);
        let course = book.course("c");
        assert_eq!(course.models.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!((course.last_run, &course.runs), (Some((NOW, RunState::Healthy)), &vec![AT]));
        assert_eq!(course.open.keys().collect::<Vec<_>>(), ["q"]);
        book.forget_before(2);
        assert!(book.course("c").runs.is_empty());
    }
}

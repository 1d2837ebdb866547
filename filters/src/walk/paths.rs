//! What a walk looks for: paths of keys, and keys whose strings are text.

use super::{MAX_STEPS, Mask, Wanted};
use crate::sketch::Sketch;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paths<W: 'static> {
    pub(super) wanted: &'static [Wanted<W>],
    pub(super) texts: &'static [&'static str],
    /// The keys of `wanted`, step by step.
    steps: [Sketch; MAX_STEPS],
    words: Sketch,
}

impl<W> Paths<W> {
    pub(crate) fn new(wanted: &'static [Wanted<W>], texts: &'static [&'static str]) -> Paths<W> {
        debug_assert!(wanted.len() <= Mask::BITS as usize);
        debug_assert!(wanted.iter().all(|w| w.path.len() <= MAX_STEPS));
        let mut steps = [Sketch::default(); MAX_STEPS];
        for (step, key) in wanted.iter().flat_map(|wanted| wanted.path.iter().enumerate()) {
            steps[step].add(key.as_bytes());
        }
        Paths { wanted, texts, steps, words: Sketch::of(texts) }
    }

    pub(super) fn is_text(&self, key: &[u8]) -> bool {
        self.words.may_have(key) && self.texts.iter().any(|text| text.as_bytes() == key)
    }

    /// Those of the paths in `mask` that lead to the member `key` of a container `step` steps down.
    pub(super) fn next(&self, mask: Mask, step: usize, key: &[u8]) -> Mask {
        if !self.steps.get(step).is_some_and(|keys| keys.may_have(key)) {
            return 0;
        }
        let mut next = 0;
        for (bit, wanted) in self.wanted.iter().enumerate() {
            if wanted.path.get(step).is_some_and(|step| step.as_bytes() == key) {
                next |= 1 << bit;
            }
        }
        next & mask
    }

    /// The same for the first element of an array.
    pub(super) fn first(&self, mask: Mask, step: usize) -> Mask {
        self.next(mask, step, b"0")
    }
}

//! Owns the keys that the totals know: their all-time figures, found by id or by number. Refuses to
//! know cells and series.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::counters::Counters;

/// The totals of a key over all time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyState {
    /// The latest name.
    pub(crate) name: String,
    /// When its latest request arrived.
    pub(crate) last_used_ms: u64,
    pub(crate) counters: Counters,
    /// How many series it has.
    pub(crate) series: u32,
}

/// All keys. A record finds its key by number, which its series holds; people ask in order of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    numbers: BTreeMap<Arc<str>, u32>,
    states: Vec<KeyState>,
}

impl Keys {
    /// The number of the key, which is new if it has none, and its shared id. `None` beyond `u32::MAX` keys.
    pub(crate) fn number(&mut self, id: &str) -> Option<(u32, Arc<str>)> {
        if let Some((shared, number)) = self.numbers.get_key_value(id) {
            return Some((*number, Arc::clone(shared)));
        }
        let number = u32::try_from(self.states.len()).ok()?;
        let shared: Arc<str> = id.into();
        self.numbers.insert(Arc::clone(&shared), number);
        self.states.push(KeyState::default());
        Some((number, shared))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&KeyState> {
        self.numbers.get(id).map(|number| self.at(*number))
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut KeyState> {
        let number = *self.numbers.get(id)?;
        Some(self.at_mut(number))
    }

    /// The key of a number that [`Keys::number`] gave.
    pub(crate) fn at(&self, number: u32) -> &KeyState {
        &self.states[number as usize]
    }

    /// The same, to be changed.
    pub(crate) fn at_mut(&mut self, number: u32) -> &mut KeyState {
        &mut self.states[number as usize]
    }

    /// Every key with its id, in order of ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &KeyState)> {
        self.numbers.iter().map(|(id, number)| (id, self.at(*number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_number_and_is_listed_by_its_id() {
        let mut keys = Keys::default();
        for (id, number) in [("b", 0), ("a", 1), ("b", 0)] {
            assert_eq!(keys.number(id), Some((number, id.into())));
            keys.at_mut(number).series += 1;
        }
        assert_eq!(keys.iter().map(|(id, key)| (&**id, key.series)).collect::<Vec<_>>(), [("a", 1), ("b", 2)]);
        assert_eq!((keys.get("b"), keys.get("c")), (Some(keys.at(0)), None));
    }
}

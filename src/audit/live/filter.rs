//! Which records somebody wants to hear of.

use super::super::batch::{Entry, term};
use super::super::history::StatusFilter;

/// Which records somebody wants to hear of. What is not said is not asked; names are told by their terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    key: Option<u64>,
    user: Option<u64>,
    model: Option<u64>,
    channel: Option<u64>,
    status: Option<StatusFilter>,
}

impl Filter {
    /// Only those of the key with this name.
    pub fn key(&mut self, name: &str) {
        self.key = Some(term(name));
    }

    /// Only those of this user.
    pub fn user(&mut self, name: &str) {
        self.user = Some(term(name));
    }

    /// Only those that asked for this model.
    pub fn model(&mut self, name: &str) {
        self.model = Some(term(name));
    }

    /// Only those that this channel served.
    pub fn channel(&mut self, name: &str) {
        self.channel = Some(term(name));
    }

    /// Only those with such a status.
    pub fn status(&mut self, status: StatusFilter) {
        self.status = Some(status);
    }

    pub(super) fn admits(&self, entry: &Entry) -> bool {
        let named =
            [(self.key, entry.key), (self.user, entry.user), (self.model, entry.model), (self.channel, entry.channel)];
        named.into_iter().all(|(wanted, term)| wanted.is_none_or(|wanted| wanted == term))
            && self.status.is_none_or(|status| status.admits(entry.status))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::batch::batch_of;
    use super::*;

    #[test]
    fn a_filter_admits_what_has_all_that_is_asked() {
        let alice = "{\"key_name\":\"alice\",\"model_requested\":\"gpt\"}";
        let batch = batch_of([(alice, 1), ("{\"key_name\":\"bob\"}", 2)]);
        let ids = |filter: &Filter| {
            batch.iter().filter(|(entry, _)| filter.admits(entry)).map(|(entry, _)| entry.id).collect::<Vec<_>>()
        };
        let mut filter = Filter::default();
        assert_eq!(ids(&filter), [1, 2]);
        filter.key("alice");
        assert_eq!(ids(&filter), [1]);
        filter.model("gpt");
        filter.status("2xx".parse().unwrap());
        assert_eq!(ids(&filter), [1]);
        filter.status("404".parse().unwrap());
        assert_eq!(ids(&filter), []);
    }
}

//! Owns how a stream's labels are written: as Loki's selector and as a JSON object. Refuses to know which streams
//! there are.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Class;

/// What every stream of this gateway is called.
const SERVICE: &str = "weir";

/// The labels that the configuration gives.
#[derive(Clone, Debug, Default)]
pub struct Labels(Vec<(String, String)>);

/// The labels of one stream.
pub(super) struct Stream<'a> {
    pub(super) labels: &'a Labels,
    pub(super) route: &'a str,
    pub(super) class: Class,
}

impl Labels {
    /// Labels with valid names, other than those that Weir sets itself.
    pub fn new(given: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(given.into_iter().collect())
    }
}

impl<'a> Stream<'a> {
    /// All labels in the order of their names, which is how Loki writes them.
    fn sorted(&self) -> Vec<(&'a str, &'a str)> {
        let given = self.labels.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let own = [("route", self.route), ("service", SERVICE), ("status", self.class.name())];
        let mut all: Vec<_> = own.into_iter().chain(given).collect();
        all.sort_unstable();
        all
    }

    /// `{route="/v1/messages", service="weir", status="2xx"}`
    pub(super) fn selector(&self) -> String {
        let mut text = String::from("{");
        for (name, value) in self.sorted() {
            if text.len() > 1 {
                text.push_str(", ");
            }
            text.push_str(name);
            text.push_str("=\"");
            value.chars().for_each(|c| quoted(c, &mut text));
            text.push('"');
        }
        text.push('}');
        text
    }
}

impl Serialize for Stream<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.sorted() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A character between quotes as Go reads it, in which Loki is written.
fn quoted(c: char, text: &mut String) {
    match c {
        '"' | '\\' => text.extend(['\\', c]),
        '\n' => text.push_str("\\n"),
        c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => text.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_the_order_of_their_names() {
        let labels = Labels::new([("zone".to_owned(), "b".to_owned()), ("env".to_owned(), "prod".to_owned())]);
        let stream = Stream { labels: &labels, route: "/v1/messages", class: Class::of(200) };
        let selector = r#"{env="prod", route="/v1/messages", service="weir", status="2xx", zone="b"}"#;
        assert_eq!(stream.selector(), selector);
        let json = r#"{"env":"prod","route":"/v1/messages","service":"weir","status":"2xx","zone":"b"}"#;
        assert_eq!(serde_json::to_string(&stream).unwrap(), json);
    }

    #[test]
    fn no_value_ends_its_quotes() {
        let labels = Labels::new([("a".to_owned(), "x\"}\\\n\u{7}\u{85}ü".to_owned())]);
        let stream = Stream { labels: &labels, route: "/", class: Class::of(0) };
        let expected = "{a=\"x\\\"}\\\\\\n\\u0007\\u0085ü\", route=\"/\", service=\"weir\", status=\"none\"}";
        assert_eq!(stream.selector(), expected);
    }
}

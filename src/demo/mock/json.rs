//! JSON with its members in the order in which they are written, as providers send them.
//!
//! Knows nothing of what is written.

use serde::Serialize;
use serde_json::value::RawValue;

/// A finished JSON value.
pub(super) type Json = Box<RawValue>;

/// A JSON object that is being written.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self(String::from("{"))
    }

    /// Adds a member. Names are given once each.
    pub(super) fn put(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&text(name));
        self.0.push(':');
        self.0.push_str(&text(value));
    }

    pub(super) fn done(mut self) -> Json {
        self.0.push('}');
        RawValue::from_string(self.0).expect("members are serialised JSON, so the whole is")
    }
}

/// Any value as JSON text.
pub(super) fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists of them always serialise")
}

/// An object, members in the order given: `object! { "id": id, "choices": [choice] }`.
macro_rules! object {
    () => { $crate::demo::mock::json::Object::new().done() };
    ($($name:literal : $value:expr),+ $(,)?) => {{
        let mut object = $crate::demo::mock::json::Object::new();
        $(object.put($name, &$value);)+
        object.done()
    }};
}

pub(super) use object;

#[cfg(test)]
mod tests {
    #[test]
    fn members_keep_their_order() {
        let inner = object! { "b": 1, "a": () };
        let outer = object! { "z": "q\"", "list": [inner] };
        assert_eq!(outer.get(), r#"{"z":"q\"","list":[{"b":1,"a":null}]}"#);
    }
}

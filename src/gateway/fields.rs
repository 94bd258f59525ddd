//! The fields of a request's body, unparsed.
//!
//! The decoder must see all fields, including duplicates, so the values are not parsed here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::contract::{ErrorBody, ErrorCode};

/// The fields of a JSON object, in their order.
#[derive(Debug, Default)]
pub(super) struct BodyFields<'a>(Vec<(String, Cow<'a, RawValue>)>);

impl<'a> BodyFields<'a> {
    /// Reads a body; an empty one has no fields.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, ErrorBody> {
        let wrong =
            |what: String| ErrorBody::new(ErrorCode::InvalidJson, format!("The body {what}."));
        // Some clients write a byte order mark; RFC 8259 lets a reader ignore it.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if body.is_empty() {
            return Ok(Self::default());
        }
        let text = std::str::from_utf8(body).map_err(|_| wrong("is not UTF-8".to_owned()))?;
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => wrong("must be a JSON object".to_owned()),
            _ => wrong(format!("is not JSON: {error}")),
        })
    }

    /// The payload made of the fields of path and query and of these fields. The former have precedence: a field
    /// of the same name is left out here and returned as a JSON pointer.
    pub(super) fn payload(&self, held: &Map<String, Value>) -> (String, Vec<String>) {
        let (own, other): (Vec<_>, Vec<_>) = self
            .0
            .iter()
            .partition(|(name, _)| !held.contains_key(name));
        let held = held.iter().map(|(name, value)| (name, value.to_string()));
        let own = own
            .iter()
            .map(|(name, value)| (name, value.get().to_owned()));
        let fields = held
            .chain(own)
            .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
        let fields: Vec<_> = fields.collect();
        let ignored = other.iter().map(|(name, _)| format!("/{name}"));
        (format!("{{{}}}", fields.join(",")), ignored.collect())
    }

    /// Gives the fields of a name another one, and a converted value.
    pub(super) fn rename(
        &mut self,
        from: &str,
        to: &str,
        convert: impl Fn(&RawValue) -> Option<Box<RawValue>>,
    ) {
        for (name, value) in self.0.iter_mut().filter(|(name, _)| name == from) {
            to.clone_into(name);
            if let Some(converted) = convert(value) {
                *value = Cow::Owned(converted);
            }
        }
    }

    /// The number of fields.
    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for BodyFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(String, Cow<'de, RawValue>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<_, &'de RawValue>()? {
                    fields.push((name, Cow::Borrowed(value)));
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Fields).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kept_as_they_were_written() {
        let group = Map::from_iter([("groupId".to_owned(), Value::from("1}@g.us"))]);
        let none = Map::new();
        let joined = |held, body: &str| BodyFields::read(body.as_bytes()).unwrap().payload(held).0;
        assert_eq!(
            joined(&group, r#" { "a": 1, "a": 2.0e1 } "#),
            r#"{"groupId":"1}@g.us","a":1,"a":2.0e1}"#
        );
        for empty in ["{ }", "", "\u{feff}", "\u{feff}{}"] {
            assert_eq!(joined(&group, empty), r#"{"groupId":"1}@g.us"}"#);
        }
        assert_eq!(joined(&none, r#"{"a\u0022":{}}"#), r#"{"a\"":{}}"#);
        for bad in ["[]", "{", "{} {}", "\"{}\"", "1", "{\"a\":\"\u{1}\"}"] {
            assert!(BodyFields::read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(BodyFields::read(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn what_the_path_holds_counts_more_than_what_the_body_says() {
        let group = Map::from_iter([("groupId".to_owned(), Value::from("1@g.us"))]);
        let written = BodyFields::read(br#"{"groupId":"2@g.us","a":1}"#).unwrap();
        let (payload, ignored) = written.payload(&group);
        assert_eq!(payload, r#"{"groupId":"1@g.us","a":1}"#);
        assert_eq!(ignored, ["/groupId"]);
        assert_eq!(written.count(), 2);
    }
}

//! Reads an untrusted body: known fields of the envelope, within bounds.
//!
//! Unknown fields of the envelope are skipped without being kept. Fields that were read before a fault are
//! kept, so that the refusal can still name the command. It does not validate values.

use std::borrow::Cow;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

/// The maximum number of values (of any kind) in the known fields together; a command with all of 1024
/// participants has some 2100.
const MAX_VALUES: usize = 20_000;

/// The maximum nesting of the known fields; a command needs three levels.
const MAX_DEPTH: usize = 32;

/// The known fields of the envelope, not validated. `null` counts as absent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Body {
    pub(super) id: Option<Value>,
    pub(super) command_type: Option<Value>,
    pub(super) session: Option<Value>,
    pub(super) payload: Option<Value>,
    pub(super) expires_at: Option<Value>,
}

/// Why a body cannot be read: where (a JSON pointer), and the reason.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) path: &'static str,
    pub(super) reason: String,
}

/// Reads a body as far as it can be read.
pub(super) fn read(bytes: &[u8]) -> (Body, Option<Fault>) {
    let mut body = Body::default();
    let fault = read_into(&mut body, bytes).err();
    (body, fault)
}

fn read_into(body: &mut Body, bytes: &[u8]) -> Result<(), Fault> {
    let fault = |reason: String| Fault { path: "", reason };
    // Some producers write a byte order mark; RFC 8259 lets a reader ignore it.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(fault("is empty, and must be a JSON object".to_owned()));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| fault(format!("is not UTF-8 from byte {} on", error.valid_up_to())))?;
    let mut reader = Reader {
        values_left: MAX_VALUES,
        path: "",
        fault: None,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    Envelope {
        body,
        reader: &mut reader,
    }
    .deserialize(&mut json)
    .and_then(|()| json.end())
    .map_err(|error| match error.classify() {
        // Only the root has an expected type, and this text may quote the value it found.
        Category::Data => fault("must be a JSON object".to_owned()),
        _ => fault(format!("is not JSON: {error}")),
    })?;
    reader.fault.map_or(Ok(()), Err)
}

/// The state of reading the known fields.
struct Reader {
    values_left: usize,
    /// The field of the envelope that is being read.
    path: &'static str,
    /// The first breach of a bound; reading goes on, to learn the fields that follow.
    fault: Option<Fault>,
}

impl Reader {
    fn blame(&mut self, reason: impl Into<String>) {
        if self.fault.is_none() {
            self.fault = Some(Fault {
                path: self.path,
                reason: reason.into(),
            });
        }
    }

    fn blame_double(&mut self, field: &str) {
        match super::reason::quotable(field) {
            Some(field) => self.blame(format!("has the field {field} twice")),
            None => self.blame("has a field twice"),
        }
    }
}

/// Reads the root.
struct Envelope<'r> {
    body: &'r mut Body,
    reader: &'r mut Reader,
}

impl<'de> DeserializeSeed<'de> for Envelope<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Envelope<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { body, reader } = self;
        let mut seen = [false; 5];
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            let (index, path, place) = match &*field {
                "id" => (0, "/id", &mut body.id),
                "type" => (1, "/type", &mut body.command_type),
                "session" => (2, "/session", &mut body.session),
                "payload" => (3, "/payload", &mut body.payload),
                "expiresAt" => (4, "/expiresAt", &mut body.expires_at),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            reader.path = path;
            let value = map.next_value_seed(Bounded { reader, depth: 1 })?;
            if seen.get(index) == Some(&true) {
                reader.path = "";
                reader.blame_double(&field);
                // Neither of the two can be trusted.
                *place = None;
                continue;
            }
            if let Some(seen) = seen.get_mut(index) {
                *seen = true;
            }
            *place = Some(value).filter(|value| !value.is_null());
        }
        Ok(())
    }
}

/// Reads one value within the bounds; values beyond them are skipped and reported.
struct Bounded<'r> {
    reader: &'r mut Reader,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            self.reader
                .blame(format!("nests more than {MAX_DEPTH} deep"));
        } else if self.reader.values_left == 0 && self.depth > 1 {
            self.reader
                .blame(format!("holds more than {MAX_VALUES} values"));
        } else {
            self.reader.values_left = self.reader.values_left.saturating_sub(1);
            return deserializer.deserialize_any(self);
        }
        // Skipping does not recurse, so no depth can exhaust the stack.
        IgnoredAny::deserialize(deserializer)?;
        Ok(Value::Null)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let Self { reader, depth } = self;
        let mut values = Vec::new();
        loop {
            let seed = Bounded {
                reader: &mut *reader,
                depth: depth + 1,
            };
            match seq.next_element_seed(seed)? {
                // After a fault nothing is kept, not even placeholders for skipped values.
                Some(value) if reader.fault.is_none() => values.push(value),
                Some(_) => {}
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Self { reader, depth } = self;
        let mut fields = Map::new();
        while let Some(field) = map.next_key::<String>()? {
            let seed = Bounded {
                reader: &mut *reader,
                depth: depth + 1,
            };
            let value = map.next_value_seed(seed)?;
            if reader.fault.is_some() {
                continue;
            }
            if fields.contains_key(&field) {
                reader.blame_double(&field);
            }
            fields.insert(field, value);
        }
        Ok(Value::Object(fields))
    }
}

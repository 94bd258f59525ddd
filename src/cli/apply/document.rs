//! YAML and JSON as a tree whose values know their lines.
//!
//! JSON is read as YAML, which includes it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::problems::{Place, Problem};

/// A value and where it is.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: u64,
    /// The bytes of the file that it was read from.
    bytes: std::ops::Range<usize>,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Fields(Vec<Field>),
}

/// A field of an object.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) line: u64,
    pub(super) name: String,
    pub(super) value: Node,
}

impl Node {
    /// The fields of an object.
    pub(super) fn fields(&self) -> &[Field] {
        match &self.kind {
            Kind::Fields(fields) => fields,
            Kind::Scalar(_) | Kind::List(_) => &[],
        }
    }

    /// A field of an object, unless it is null.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        let field = self.fields().iter().find(|field| field.name == name);
        field.filter(|it| !matches!(it.value.kind, Kind::Scalar(Value::Null)))
    }

    /// The value as JSON.
    pub(super) fn json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(nodes) => nodes.iter().map(Self::json).collect(),
            Kind::Fields(fields) => {
                let named = fields.iter().map(|it| (it.name.clone(), it.value.json()));
                Value::Object(named.collect())
            }
        }
    }

    /// The value as text. Without quotation marks YAML takes `2026`, `yes` and `+491700000001` for something else; then
    /// it is what stands in the file.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text.clone()),
            Kind::Scalar(Value::Null) | Kind::List(_) | Kind::Fields(_) => None,
            Kind::Scalar(_) => file.get(self.bytes.clone()).map(str::to_owned),
        }
    }

    /// The line of what a JSON pointer names, or of the last part of it that exists.
    pub(super) fn line_of(&self, pointer: &str) -> u64 {
        let (mut line, mut node) = (self.line, self);
        for name in pointer.split('/').skip(1) {
            let Some(field) = node.get(name) else {
                break;
            };
            (line, node) = (field.line, &field.value);
        }
        line
    }
}

/// Reads the documents of a file. A document that is a list stands for its entries.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Node>, Problem> {
    let documents: Vec<Node> = serde_saphyr::from_multiple(text).map_err(|error| {
        let line = error.location().map_or(1, |it| it.line());
        let reason = error.without_snippet().to_string();
        let reason = reason.lines().next().unwrap_or_default().to_owned();
        Problem::new(Place::new(file, line), "", reason)
    })?;
    let groups = documents.into_iter().flat_map(|node| match node.kind {
        Kind::List(nodes) => nodes,
        _ => vec![node],
    });
    Ok(groups.collect())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned {
            value, referenced, ..
        } = Spanned::<Kind>::deserialize(deserializer)?;
        let span = referenced.span();
        let at = |offset: Option<u64>| usize::try_from(offset.unwrap_or(0)).unwrap_or(0);
        let begin = at(span.byte_offset());
        Ok(Self {
            line: referenced.line(),
            bytes: begin..begin.saturating_add(at(span.byte_len())),
            kind: value,
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a group")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = entries.next_element()? {
            nodes.push(node);
        }
        Ok(Kind::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = entries.next_key::<Spanned<String>>()? {
            fields.push(Field {
                line: name.referenced.line(),
                name: name.value,
                value: entries.next_value()?,
            });
        }
        Ok(Kind::Fields(fields))
    }
}

//! The values that a statement binds.

use std::sync::Arc;
use std::time::Duration;

/// A bound value. Text, whole numbers and bytes are all that the tables hold.
#[derive(Debug, Clone)]
pub(in crate::store) enum Value {
    Text(String),
    /// A text that somebody else has too.
    Shared(Arc<str>),
    Int(i64),
    Bytes(Vec<u8>),
    MaybeText(Option<String>),
    MaybeInt(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

/// A duration in milliseconds, as the tables hold it.
pub(in crate::store) fn millis(duration: Duration) -> Value {
    Value::Int(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

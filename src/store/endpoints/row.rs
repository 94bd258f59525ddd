//! An endpoint's row: its columns, read and written.

use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};

use super::{Breaker, Endpoint, Origin};
use crate::contract::{Timestamp, WebhookSettings, WebhookState};
use crate::store::Error;
use crate::store::db::Row;

/// The columns of an endpoint, in the order in which [`read`] reads them.
pub(super) const COLUMNS: &str = "name, session, origin, settings, secrets, state, reason, \
     revision, bound, epoch, failing_since, probe_at, probe_wait";

pub(super) fn select(which: &str) -> String {
    format!("SELECT {COLUMNS}, binder FROM webhook_endpoints {which}")
}

/// Our own types can always be serialized: their keys are strings.
pub(in crate::store) fn text_of(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn settings_text(settings: &WebhookSettings) -> String {
    text_of(settings)
}

/// An endpoint that was written and no longer exists: another process removed it meanwhile.
pub(super) fn vanished(name: &str) -> Error {
    corrupt(format!("the webhook {name} was removed while it was set"))
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::corrupt("webhook_endpoints", serde_json::Error::custom(what))
}

pub(super) fn read(row: &Row) -> Result<Endpoint, Error> {
    let session: Option<String> = row.get(1)?;
    let failing_since: Option<i64> = row.get(10)?;
    let wait: i64 = row.get(12)?;
    Ok(Endpoint {
        name: row.get(0)?,
        session: session
            .map(|session| session.parse().map_err(corrupt))
            .transpose()?,
        origin: origin(&row.get::<String>(2)?)?,
        settings: json(row, 3)?,
        secrets: json(row, 4)?,
        state: state(&row.get::<String>(5)?)?,
        reason: row.get(6)?,
        revision: row.get(7)?,
        bound: json(row, 8)?,
        binding: row.get::<Option<String>>(13)?.is_some(),
        breaker: Breaker {
            epoch: row.get(9)?,
            failing_since: failing_since.map(time),
            probe_at: time(row.get(11)?),
            probe_wait: Duration::from_millis(u64::try_from(wait).unwrap_or_default()),
        },
    })
}

fn json<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, Error> {
    serde_json::from_str(&row.get::<String>(column)?)
        .map_err(|error| Error::corrupt("webhook_endpoints", error))
}

fn time(millis: i64) -> Timestamp {
    Timestamp(jiff::Timestamp::from_millisecond(millis).unwrap_or_default())
}

fn state(text: &str) -> Result<WebhookState, Error> {
    use WebhookState::{Active, Disabled, Paused, Removing};
    [Active, Paused, Disabled, Removing]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| corrupt("an unknown state"))
}

impl Origin {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Command => "command",
            Self::Operator => "operator",
        }
    }
}

fn origin(text: &str) -> Result<Origin, Error> {
    [Origin::Configuration, Origin::Command, Origin::Operator]
        .into_iter()
        .find(|origin| origin.as_str() == text)
        .ok_or_else(|| corrupt("an unknown origin"))
}

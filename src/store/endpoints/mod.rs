//! Webhook endpoints: their settings, and the state that all replicas share.
//!
//! Every change is one conditional statement: of several replicas that want the same change, one makes it. What
//! one replica at a time may do for an endpoint is in [`super::leases`]; what the states mean is decided by the
//! `webhooks` role.

mod removal;
mod row;

use std::collections::BTreeSet;
use std::time::Duration;

use super::Error;
use super::db::{Pool, Value, millis};
use crate::contract::{
    SessionName, SigningSecret, Timestamp, WebhookSettings, WebhookState, endpoint_name,
};
use crate::contract::{Webhook, WebhookId};

pub use removal::{DISCARD, QueuedDeliveries};
pub(super) use row::text_of;
use row::{COLUMNS, read, settings_text};

/// An endpoint as all replicas see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The id, preceded by its session and a dot if it belongs to one.
    pub name: String,
    /// The session it belongs to; none for an operator's.
    pub session: Option<SessionName>,
    /// Who set it.
    pub origin: Origin,
    /// What is set.
    pub settings: WebhookSettings,
    /// Secrets that groupmq made; they sign where the settings have none.
    pub secrets: Vec<ManagedSecret>,
    /// Whether events are collected and sent.
    pub state: WebhookState,
    /// The reason, if one was given.
    pub reason: Option<String>,
    /// Rises with every change of settings or state.
    pub revision: i64,
    /// Every key that may be bound to the queue.
    pub bound: BTreeSet<String>,
    /// A process is changing the bindings, or failed while it did.
    pub binding: bool,
    /// The state of its breaker.
    pub breaker: Breaker,
}

/// Who set an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `[[webhooks]]`.
    Configuration,
    /// `SetWebhook`.
    Command,
    /// The command line.
    Operator,
}

/// A secret that groupmq made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ManagedSecret {
    /// The secret.
    pub secret: SigningSecret,
    /// Until when it signs, in milliseconds since 1970; none for the newest.
    pub until: Option<i64>,
}

/// The state of an endpoint's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Rises when it opens and when it closes.
    pub epoch: i64,
    /// Since when it is open.
    pub failing_since: Option<Timestamp>,
    /// When the next probe is due.
    pub probe_at: Timestamp,
    /// The wait before that probe.
    pub probe_wait: Duration,
}

/// An endpoint to be set.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// The session it belongs to; none for an operator's.
    pub session: Option<SessionName>,
    /// Its id within that.
    pub id: WebhookId,
    /// Who sets it.
    pub origin: Origin,
    /// What is set.
    pub settings: WebhookSettings,
    /// The secret to begin with, should the endpoint be new.
    pub secret: SigningSecret,
}

/// A handle to the endpoints; cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pool: Pool,
}

impl Endpoint {
    /// The public view: without secrets and the values of headers.
    #[must_use]
    pub fn shown(&self) -> Webhook {
        let settings = &self.settings;
        Webhook {
            id: self.name.clone(),
            url: settings.url.clone(),
            events: settings.events.clone(),
            sessions: settings.sessions.clone(),
            state: self.state,
            reason: self.reason.clone(),
            failing_since: self.breaker.failing_since,
            retries: settings.retries.clone(),
            custom_headers: settings
                .custom_headers
                .iter()
                .map(|header| header.name.clone())
                .collect(),
            rate_limit: settings.rate_limit,
            concurrency: settings.concurrency,
            ordered: settings.ordered,
            timeout_seconds: settings.timeout_seconds,
        }
    }
}

impl Endpoints {
    pub(super) const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// All endpoints, by name.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn all(&self) -> Result<Vec<Endpoint>, Error> {
        let sql = row::select("ORDER BY name");
        let rows = self.pool.fetch("reading webhooks", sql, vec![]).await?;
        rows.iter().map(read).collect()
    }

    /// One endpoint.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn get(&self, name: &str) -> Result<Option<Endpoint>, Error> {
        let sql = row::select("WHERE name = $1");
        let name = vec![Value::from(name)];
        let rows = self.pool.fetch("reading a webhook", sql, name).await?;
        rows.first().map(read).transpose()
    }

    /// The endpoints that belong to a session, by name.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn of_session(&self, session: &SessionName) -> Result<Vec<Endpoint>, Error> {
        let sql = row::select("WHERE session = $1 ORDER BY name");
        let session = vec![Value::from(session.as_str())];
        let rows = self.pool.fetch("reading webhooks", sql, session).await?;
        rows.iter().map(read).collect()
    }

    /// Sets an endpoint. One with the same settings stays as it is, paused or not; one that is being removed is
    /// kept.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn set(&self, new: NewEndpoint) -> Result<Endpoint, Error> {
        let name = endpoint_name(new.session.as_ref(), &new.id);
        let state = if new.settings.disabled {
            WebhookState::Disabled
        } else {
            WebhookState::Active
        };
        let first = ManagedSecret {
            secret: new.secret,
            until: None,
        };
        let values = vec![
            Value::from(name.as_str()),
            Value::MaybeText(new.session.map(|session| session.to_string())),
            Value::from(new.origin.as_str()),
            Value::Text(settings_text(&new.settings)),
            Value::Text(text_of(&[first])),
            Value::from(state.as_str()),
        ];
        let sql = format!(
            "INSERT INTO webhook_endpoints ({COLUMNS}) VALUES \
             ($1, $2, $3, $4, $5, $6, NULL, 1, '[]', 1, NULL, 0, 0) \
             ON CONFLICT (name) DO UPDATE SET origin = excluded.origin, \
             settings = excluded.settings, state = excluded.state, reason = NULL, \
             revision = webhook_endpoints.revision + 1, epoch = webhook_endpoints.epoch + 1, \
             failing_since = NULL, prober = NULL \
             WHERE webhook_endpoints.settings <> excluded.settings \
             OR webhook_endpoints.origin <> excluded.origin \
             OR webhook_endpoints.state = 'removing'"
        );
        self.pool.execute("setting a webhook", sql, values).await?;
        self.get(&name).await?.ok_or_else(|| row::vanished(&name))
    }

    /// Changes the state of an endpoint; false if it does not exist, or has this state already. An endpoint in
    /// `removing` leaves that state only if it is set again.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn set_state(
        &self,
        name: &str,
        state: WebhookState,
        reason: Option<&str>,
    ) -> Result<bool, Error> {
        self.pool
            .change(
                "changing a webhook's state",
                "UPDATE webhook_endpoints SET state = $2, reason = $3, revision = revision + 1 \
             WHERE name = $1 AND (state <> $2 OR COALESCE(reason, '') <> COALESCE($3, '')) \
             AND (state <> 'removing' OR $2 = 'removing')",
                vec![
                    Value::from(name),
                    Value::from(state.as_str()),
                    Value::MaybeText(reason.map(str::to_owned)),
                ],
            )
            .await
    }

    /// Puts a new secret before those that groupmq made earlier, which sign until `until`.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn rotate(
        &self,
        endpoint: &Endpoint,
        secret: SigningSecret,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, Error> {
        let now = now.0.as_millisecond();
        let until = until.0.as_millisecond();
        let kept = endpoint.secrets.iter().cloned().map(|mut old| {
            old.until = Some(old.until.unwrap_or(until));
            old
        });
        let newest = ManagedSecret {
            secret,
            until: None,
        };
        let all: Vec<_> = std::iter::once(newest)
            .chain(kept.filter(|old| old.until > Some(now)))
            .collect();
        self.pool
            .change(
                "rotating a webhook's secret",
                "UPDATE webhook_endpoints SET secrets = $2, revision = revision + 1 \
             WHERE name = $1 AND revision = $3",
                vec![
                    Value::from(endpoint.name.as_str()),
                    Value::Text(text_of(&all)),
                    Value::Int(endpoint.revision),
                ],
            )
            .await
    }

    /// Deletes an endpoint that is being removed.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn forget(&self, name: &str) -> Result<bool, Error> {
        self.pool
            .change(
                "deleting a webhook",
                "DELETE FROM webhook_endpoints WHERE name = $1 AND state = 'removing'",
                vec![Value::from(name)],
            )
            .await
    }

    /// Opens the breaker; false when another replica did, or closed it since.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn open(
        &self,
        endpoint: &Endpoint,
        now: Timestamp,
        probe_wait: Duration,
    ) -> Result<bool, Error> {
        let now = now.0.as_millisecond();
        self.pool.change(
            "opening a webhook's breaker",
            format!(
                "UPDATE webhook_endpoints SET failing_since = $3, probe_at = {} + $4, probe_wait = $4, \
                 prober = NULL, epoch = epoch + 1 \
                 WHERE name = $1 AND epoch = $2 AND failing_since IS NULL",
                self.pool.now()
            ),
            vec![
                Value::from(endpoint.name.as_str()),
                Value::Int(endpoint.breaker.epoch),
                Value::Int(now),
                millis(probe_wait),
            ],
        )
        .await
    }

    /// Closes the breaker; false when another replica did.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn close(&self, endpoint: &Endpoint) -> Result<bool, Error> {
        self.pool.change(
            "closing a webhook's breaker",
            "UPDATE webhook_endpoints SET failing_since = NULL, prober = NULL, epoch = epoch + 1 \
             WHERE name = $1 AND epoch = $2 AND failing_since IS NOT NULL",
            vec![
                Value::from(endpoint.name.as_str()),
                Value::Int(endpoint.breaker.epoch),
            ],
        )
        .await
    }
}

//! Webhook endpoints: what is set for them, and what all replicas have to agree on.
//!
//! Every change is one conditional statement, so that of several replicas that want the same one
//! makes it: opening and closing the breaker, the claim of a probe, the right to change bindings, the
//! right to deliver in order. What the states mean is the `webhooks` role's business.

mod removal;
mod row;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::db::{Pool, Value};
use crate::contract::{
    SessionName, SigningSecret, Timestamp, WebhookSettings, WebhookState, endpoint_name,
};
use crate::contract::{Webhook, WebhookId};

pub use removal::{DISCARD, Waiting};
use row::{COLUMNS, read, settings_text, text_of};

/// An endpoint as all replicas see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The id alone, or behind the session it belongs to and a dot.
    pub name: String,
    /// The session it belongs to; none for an operator's.
    pub session: Option<SessionName>,
    /// Who set it.
    pub origin: Origin,
    /// What is set.
    pub settings: WebhookSettings,
    /// Secrets that groupmq made; they sign where the settings have none.
    pub secrets: Vec<Managed>,
    /// Whether events are collected and sent.
    pub state: WebhookState,
    /// Why, where somebody said so.
    pub reason: Option<String>,
    /// Rises with every change of settings or state.
    pub revision: i64,
    /// Every key that may be bound to the queue.
    pub bound: BTreeSet<String>,
    /// Somebody is changing the bindings, or died over it.
    pub binding: bool,
    /// How its breaker stands.
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
pub struct Managed {
    /// The secret.
    pub secret: SigningSecret,
    /// Until when it signs, in milliseconds since 1970; none for the newest.
    pub until: Option<i64>,
}

/// How an endpoint's breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Rises when it opens and when it closes.
    pub epoch: i64,
    /// Since when it is open.
    pub failing_since: Option<Timestamp>,
    /// When the next probe is due.
    pub probe_at: Timestamp,
    /// How long that was waited for.
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

/// The way to the endpoints; cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pool: Pool,
    me: Arc<str>,
}

impl Endpoint {
    /// As it is shown: no secret, no header's value.
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
    pub(super) const fn new(pool: Pool, me: Arc<str>) -> Self {
        Self { pool, me }
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
    pub async fn of(&self, session: &SessionName) -> Result<Vec<Endpoint>, Error> {
        let sql = row::select("WHERE session = $1 ORDER BY name");
        let session = vec![Value::from(session.as_str())];
        let rows = self.pool.fetch("reading webhooks", sql, session).await?;
        rows.iter().map(read).collect()
    }

    /// Sets an endpoint. One that is set like this already stays as it is, paused or not; one that was
    /// on its way out is taken back.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn set(&self, new: NewEndpoint) -> Result<Endpoint, Error> {
        let name = endpoint_name(new.session.as_ref(), &new.id);
        let state = if new.settings.disabled {
            WebhookState::Disabled
        } else {
            WebhookState::Active
        };
        let first = Managed {
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

    /// Changes the state of an endpoint; false when it is not there, or was so already. From `removing`
    /// there is no way back but to set it anew.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn set_state(
        &self,
        name: &str,
        state: WebhookState,
        reason: Option<&str>,
    ) -> Result<bool, Error> {
        self.change(
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
        let newest = Managed {
            secret,
            until: None,
        };
        let all: Vec<_> = std::iter::once(newest)
            .chain(kept.filter(|old| old.until > Some(now)))
            .collect();
        self.change(
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

    /// Forgets an endpoint that is on its way out.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn forget(&self, name: &str) -> Result<bool, Error> {
        self.change(
            "forgetting a webhook",
            "DELETE FROM webhook_endpoints WHERE name = $1 AND state = 'removing'",
            vec![Value::from(name)],
        )
        .await
    }

    /// Claims the right to change an endpoint's bindings for so long, and notes every key that may be
    /// bound from now on; false when another has it, or the endpoint has changed since it was read.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn begin_binding(
        &self,
        endpoint: &Endpoint,
        keys: &BTreeSet<String>,
        lasting: Duration,
    ) -> Result<bool, Error> {
        let now = self.pool.now();
        self.change(
            "claiming a webhook's bindings",
            format!(
                "UPDATE webhook_endpoints SET binder = $2, binder_until = {now} + $3, bound = $4 \
                 WHERE name = $1 AND revision = $5 \
                 AND (binder IS NULL OR binder = $2 OR binder_until <= {now})"
            ),
            vec![
                Value::from(endpoint.name.as_str()),
                Value::from(&*self.me),
                Value::Int(millis(lasting)),
                Value::Text(text_of(keys)),
                Value::Int(endpoint.revision),
            ],
        )
        .await
    }

    /// Notes which keys are bound, and gives the right to change them back.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn end_binding(&self, name: &str, keys: &BTreeSet<String>) -> Result<bool, Error> {
        self.change(
            "noting a webhook's bindings",
            "UPDATE webhook_endpoints SET binder = NULL, bound = $3 WHERE name = $1 AND binder = $2",
            vec![
                Value::from(name),
                Value::from(&*self.me),
                Value::Text(text_of(keys)),
            ],
        )
        .await
    }

    /// Gives the right to change an endpoint's bindings back with the change undone or half done: it stays
    /// noted that there was one, and whoever comes next may claim the right at once.
    ///
    /// # Errors
    /// When the store cannot be used; the right ends by itself then.
    pub async fn give_up_binding(&self, name: &str) -> Result<bool, Error> {
        self.change(
            "giving a webhook's bindings back",
            "UPDATE webhook_endpoints SET binder_until = 0 WHERE name = $1 AND binder = $2",
            vec![Value::from(name), Value::from(&*self.me)],
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
        let (now, wait) = (now.0.as_millisecond(), millis(probe_wait));
        self.change(
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
                Value::Int(wait),
            ],
        )
        .await
    }

    /// Claims the probe that is due, for so long; false when it is not due or another has it.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn claim_probe(&self, endpoint: &Endpoint, lasting: Duration) -> Result<bool, Error> {
        let now = self.pool.now();
        self.change(
            "claiming a webhook's probe",
            format!(
                "UPDATE webhook_endpoints SET prober = $3, probe_until = {now} + $4 \
                 WHERE name = $1 AND epoch = $2 AND failing_since IS NOT NULL AND probe_at <= {now} \
                 AND (prober IS NULL OR probe_until <= {now})"
            ),
            vec![
                Value::from(endpoint.name.as_str()),
                Value::Int(endpoint.breaker.epoch),
                Value::from(&*self.me),
                Value::Int(millis(lasting)),
            ],
        )
        .await
    }

    /// Gives the probe back, and says when the next one is due.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn probe_later(&self, endpoint: &Endpoint, wait: Duration) -> Result<bool, Error> {
        self.change(
            "putting a webhook's probe off",
            format!(
                "UPDATE webhook_endpoints SET prober = NULL, probe_at = {} + $4, probe_wait = $4 \
                 WHERE name = $1 AND epoch = $2 AND prober = $3",
                self.pool.now()
            ),
            vec![
                Value::from(endpoint.name.as_str()),
                Value::Int(endpoint.breaker.epoch),
                Value::from(&*self.me),
                Value::Int(millis(wait)),
            ],
        )
        .await
    }

    /// Closes the breaker; false when another replica did.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn close(&self, endpoint: &Endpoint) -> Result<bool, Error> {
        self.change(
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

    /// Claims, or keeps, the right to deliver in order for so long; false while another has it.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn lead(&self, name: &str, lasting: Duration) -> Result<bool, Error> {
        let now = self.pool.now();
        self.change(
            "claiming a webhook's order",
            format!(
                "UPDATE webhook_endpoints SET leader = $2, leader_until = {now} + $3 \
                 WHERE name = $1 AND (leader IS NULL OR leader = $2 OR leader_until <= {now})"
            ),
            vec![
                Value::from(name),
                Value::from(&*self.me),
                Value::Int(millis(lasting)),
            ],
        )
        .await
    }

    /// Gives the right to deliver in order back.
    ///
    /// # Errors
    /// When the store cannot be used; it ends by itself then.
    pub async fn follow(&self, name: &str) -> Result<bool, Error> {
        self.change(
            "giving a webhook's order back",
            "UPDATE webhook_endpoints SET leader = NULL WHERE name = $1 AND leader = $2",
            vec![Value::from(name), Value::from(&*self.me)],
        )
        .await
    }

    async fn change(
        &self,
        doing: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<bool, Error> {
        Ok(self.pool.execute(doing, sql, values).await? > 0)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

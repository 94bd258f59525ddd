//! Leases: rights that one process at a time holds, until a time or until it releases them.
//!
//! There are four: a lease by name (table `leases`), and for each webhook endpoint (table `webhook_endpoints`)
//! the leases on its bindings (`binder`), on its probe (`prober`) and on sending in order (`leader`). Expiry is
//! measured by the database's clock alone, so the clocks of the processes' machines do not matter. Each change
//! is one conditional statement: of several processes that try, one succeeds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::db::{Pool, Value, millis};
use super::endpoints::{Endpoint, text_of};

/// Acquires and releases leases for this process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases {
    pool: Pool,
    me: Arc<str>,
}

impl Leases {
    pub(super) const fn new(pool: Pool, me: Arc<str>) -> Self {
        Self { pool, me }
    }

    /// Acquires or renews the lease of this name; true if this process holds it.
    ///
    /// # Errors
    /// When the store cannot be used; then no process can rely on holding it.
    pub async fn acquire(&self, name: &str, duration: Duration) -> Result<bool, Error> {
        let now = self.pool.now();
        let sql = format!(
            "INSERT INTO leases (name, owner, until_at) VALUES ($1, $2, {now} + $3) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until_at = excluded.until_at \
             WHERE leases.owner = excluded.owner OR leases.until_at < {now}"
        );
        let values = vec![Value::from(name), self.me(), millis(duration)];
        self.pool.change("acquiring a lease", sql, values).await
    }

    /// Acquires the lease on an endpoint's bindings, and records every key that may be bound from now on; false
    /// if another process holds it, or the endpoint has changed since it was read.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn acquire_bindings(
        &self,
        endpoint: &Endpoint,
        keys: &BTreeSet<String>,
        duration: Duration,
    ) -> Result<bool, Error> {
        let now = self.pool.now();
        let sql = format!(
            "UPDATE webhook_endpoints SET binder = $2, binder_until = {now} + $3, bound = $4 \
             WHERE name = $1 AND revision = $5 \
             AND (binder IS NULL OR binder = $2 OR binder_until <= {now})"
        );
        let values = vec![
            Value::from(endpoint.name.as_str()),
            self.me(),
            millis(duration),
            Value::Text(text_of(keys)),
            Value::Int(endpoint.revision),
        ];
        self.pool
            .change("acquiring the lease on a webhook's bindings", sql, values)
            .await
    }

    /// Records which keys are bound, and releases the lease on the bindings.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn release_bindings(
        &self,
        name: &str,
        keys: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        let sql = "UPDATE webhook_endpoints SET binder = NULL, bound = $3 \
                   WHERE name = $1 AND binder = $2";
        let values = vec![Value::from(name), self.me(), Value::Text(text_of(keys))];
        self.pool
            .change("releasing the lease on a webhook's bindings", sql, values)
            .await
    }

    /// Releases the lease on the bindings after a change that failed: the endpoint stays marked as being bound,
    /// and the next process may acquire the lease at once.
    ///
    /// # Errors
    /// When the store cannot be used; the lease then expires.
    pub async fn abandon_bindings(&self, name: &str) -> Result<bool, Error> {
        let sql = "UPDATE webhook_endpoints SET binder_until = 0 WHERE name = $1 AND binder = $2";
        let values = vec![Value::from(name), self.me()];
        self.pool
            .change("abandoning the lease on a webhook's bindings", sql, values)
            .await
    }

    /// Acquires the lease on the probe of an endpoint whose breaker is open; false if no probe is due, or
    /// another process holds the lease.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn acquire_probe(
        &self,
        endpoint: &Endpoint,
        duration: Duration,
    ) -> Result<bool, Error> {
        let now = self.pool.now();
        let sql = format!(
            "UPDATE webhook_endpoints SET prober = $3, probe_until = {now} + $4 \
             WHERE name = $1 AND epoch = $2 AND failing_since IS NOT NULL AND probe_at <= {now} \
             AND (prober IS NULL OR probe_until <= {now})"
        );
        let values = self.probe_values(endpoint, duration);
        self.pool
            .change("acquiring the lease on a webhook's probe", sql, values)
            .await
    }

    /// Releases the lease on the probe, and schedules the next one after `wait`.
    ///
    /// # Errors
    /// When the store cannot be used; the lease then expires.
    pub async fn release_probe(&self, endpoint: &Endpoint, wait: Duration) -> Result<bool, Error> {
        let sql = format!(
            "UPDATE webhook_endpoints SET prober = NULL, probe_at = {} + $4, probe_wait = $4 \
             WHERE name = $1 AND epoch = $2 AND prober = $3",
            self.pool.now()
        );
        let values = self.probe_values(endpoint, wait);
        self.pool
            .change("releasing the lease on a webhook's probe", sql, values)
            .await
    }

    /// Acquires or renews the lease on sending an endpoint's deliveries in order; false while another process
    /// holds it.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn acquire_sending(&self, name: &str, duration: Duration) -> Result<bool, Error> {
        let now = self.pool.now();
        let sql = format!(
            "UPDATE webhook_endpoints SET leader = $2, leader_until = {now} + $3 \
             WHERE name = $1 AND (leader IS NULL OR leader = $2 OR leader_until <= {now})"
        );
        let values = vec![Value::from(name), self.me(), millis(duration)];
        self.pool
            .change("acquiring the lease on a webhook's deliveries", sql, values)
            .await
    }

    /// Releases the lease on sending in order.
    ///
    /// # Errors
    /// When the store cannot be used; the lease then expires.
    pub async fn release_sending(&self, name: &str) -> Result<bool, Error> {
        let sql = "UPDATE webhook_endpoints SET leader = NULL WHERE name = $1 AND leader = $2";
        let values = vec![Value::from(name), self.me()];
        self.pool
            .change("releasing the lease on a webhook's deliveries", sql, values)
            .await
    }

    fn me(&self) -> Value {
        Value::from(&*self.me)
    }

    fn probe_values(&self, endpoint: &Endpoint, duration: Duration) -> Vec<Value> {
        vec![
            Value::from(endpoint.name.as_str()),
            Value::Int(endpoint.breaker.epoch),
            self.me(),
            millis(duration),
        ]
    }
}

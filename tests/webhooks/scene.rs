//! A broker, workers, a store to set endpoints in, and a server that is the endpoints.

use std::sync::Arc;
use std::time::Duration;

use groupmq::clock::SystemClock;
use groupmq::config;
use groupmq::contract::{SigningSecret, WebhookSettings};
use groupmq::fanout;
use groupmq::store::Store;
use groupmq::store::endpoints::{Endpoint, Endpoints, NewEndpoint, Origin};
use groupmq_test_support::announcer::Announcer;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::receiver::Receiver;
use groupmq_test_support::worker::{Options, Worker};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A machine that compiles at the same time is slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Everything that a test of webhooks needs.
pub(crate) struct Scene {
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) options: Options,
    pub(crate) worker: Worker,
    pub(crate) receiver: Receiver,
    pub(crate) announcer: Announcer,
    pub(crate) store: Store,
    pub(crate) endpoints: Endpoints,
    /// Held for its drop.
    _folder: TempDir,
}

impl Scene {
    /// On the shared broker, with a store of its own.
    pub(crate) async fn shared() -> Self {
        Self::shared_with(|options| options).await
    }

    pub(crate) async fn shared_with(settings: impl FnOnce(Options) -> Options) -> Self {
        let broker = RabbitMq::shared().await.unwrap();
        Self::at(&broker.url(), None, settings).await
    }

    /// On any broker; with a store of its own unless one is given.
    pub(crate) async fn at(
        url: &str,
        store: Option<&str>,
        settings: impl FnOnce(Options) -> Options,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = groupmq_test_support::worker::store_in(folder.path());
        let store_url = store.unwrap_or(&own);
        let prefix = groupmq_test_support::prefix();
        let options = settings(quick(url, &prefix).set("store.url", store_url));
        let worker = Worker::start(&options).await.unwrap();
        let store = open(store_url).await;
        Self {
            url: url.to_owned(),
            options,
            worker,
            receiver: Receiver::start().unwrap(),
            announcer: Announcer::new(url, &prefix),
            endpoints: store.endpoints(),
            store,
            prefix,
            _folder: folder,
        }
    }

    /// Sets an endpoint at a path of the receiver, with whatever else, and waits until the broker knows.
    pub(crate) async fn endpoint(&self, id: &str, path: &str, more: Value) -> Endpoint {
        let set = self.set(id, &self.receiver.url(path), more).await;
        self.bound(&set.name).await
    }

    /// Sets an endpoint, as an operator does.
    pub(crate) async fn set(&self, id: &str, url: &str, more: Value) -> Endpoint {
        let new = NewEndpoint {
            session: None,
            id: id.parse().unwrap(),
            origin: Origin::Operator,
            settings: settings(url, &more),
            secret: SigningSecret::generate([7; 24]),
        };
        self.endpoints.set(new).await.unwrap()
    }

    /// Waits until an endpoint's bindings are what it asks for.
    pub(crate) async fn bound(&self, name: &str) -> Endpoint {
        self.until(name, fanout::is_in_sync).await
    }

    /// Waits until an endpoint is as it should be.
    pub(crate) async fn until(&self, name: &str, is: impl Fn(&Endpoint) -> bool) -> Endpoint {
        let begun = std::time::Instant::now();
        loop {
            let endpoint = self.endpoints.get(name).await.unwrap();
            if let Some(endpoint) = endpoint
                && is(&endpoint)
            {
                return endpoint;
            }
            assert!(begun.elapsed() < PATIENCE, "{name} is not as it should be");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Settings of an endpoint, as they stand in the store.
pub(crate) fn settings(url: &str, more: &Value) -> WebhookSettings {
    let mut settings = json!({
        "url": url, "events": ["*"], "sessions": ["*"], "hmac": null, "secrets": [], "retries": null,
        "customHeaders": [], "rateLimit": null, "concurrency": null, "ordered": false,
        "timeoutSeconds": null, "disabled": false,
    });
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    serde_json::from_value(settings).unwrap()
}

/// Options of a worker whose waits are short and that may send to this machine.
pub(crate) fn quick(url: &str, prefix: &str) -> Options {
    Options::new(env!("CARGO_BIN_EXE_groupmq"), url, prefix)
        .set("egress.allow", "127.0.0.0/8")
        .set("topology.delay_tiers", "1s")
        .set("delivery.schedule", "200ms,500ms,1s")
        .set("delivery.probe_min", "200ms")
        .set("delivery.probe_max", "2s")
        .set("delivery.refresh", "100ms")
}

/// Opens a store, whose writer is not run: endpoints are written beside it.
pub(crate) async fn open(url: &str) -> Store {
    let opened = Store::open(&store_at(url), Arc::new(SystemClock)).await;
    opened.unwrap().0
}

/// The settings of a store.
pub(crate) fn store_at(url: &str) -> config::Store {
    config::Store {
        url: url.into(),
        url_file: None,
        connections: 2,
        timeout: Duration::from_secs(30),
    }
}

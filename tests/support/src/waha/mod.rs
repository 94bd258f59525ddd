//! A WAHA server: real HTTP and WebSocket on a port, three engines, and what each of them gets wrong,
//! to be switched on and off.
//!
//! It knows WhatsApp's rules for groups by itself ([`model`]) and nothing of groupmq's code. Requests
//! that WAHA's `OpenAPI` document does not know are answered as WAHA would, and kept in
//! [`Waha::violations`].

pub mod events;
pub mod model;

mod actions;
mod bodies;
mod by_hand;
mod errors;
mod gows;
mod join_requests;
mod noweb;
mod people;
mod pictures;
mod quirks;
mod routes;
mod sessions;
mod settings;
mod store;
mod views;
mod webjs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use events::Webhook;
use model::{Group, World};
use people::People;
use sessions::Session;
use store::Store;

pub use by_hand::ByHand;
pub use quirks::{Fault, Quirks};

/// The key that every request must carry.
pub const KEY: &str = "waha-key";

/// The version whose answers were captured.
const VERSION: &str = "2026.2.1";

/// The version of a server with [`Quirks::recent`].
const RECENT: &str = "2026.9.1";

/// Which engine the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    /// whatsapp-web.js
    Webjs,
    /// Baileys
    Noweb,
    /// whatsmeow
    Gows,
}

impl Personality {
    /// As it stands in WAHA's bodies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webjs => "WEBJS",
            Self::Noweb => "NOWEB",
            Self::Gows => "GOWS",
        }
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET`
    pub method: String,
    /// Path and query, as they came.
    pub path: String,
    /// The body; null for none.
    pub body: Value,
    /// `traceparent`
    pub trace: String,
    /// `tracestate`
    pub trace_state: String,
}

/// A WAHA server. Dropping it closes it.
#[derive(Debug)]
pub struct Waha {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Held for its drop.
    serving: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    /// Itself, for what happens later.
    this: Weak<Self>,
    personality: Personality,
    /// Sessions and the phones of their accounts.
    accounts: BTreeMap<String, String>,
    feed: broadcast::Sender<(String, String)>,
    events: AtomicU64,
    /// Ends what has been upgraded to a WebSocket, which outlives the serving.
    hang_up: watch::Sender<()>,
    // A std mutex: never held across an await.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    world: World,
    quirks: Quirks,
    people: People,
    /// Whoever was named in a request: WAHA knows their private ids.
    met: BTreeSet<String>,
    sessions: BTreeMap<String, Session>,
    /// NOWEB's stores, by account.
    stores: BTreeMap<String, Store>,
    /// Groups as they were when views of them stopped to change.
    frozen: BTreeMap<String, Group>,
    /// By group: the people that views of it lack.
    hidden: BTreeMap<String, BTreeSet<String>>,
    /// Groups that lists lack.
    omitted: BTreeSet<String>,
    /// Groups that are not loaded.
    stubs: BTreeSet<String>,
    faults: VecDeque<(String, Fault)>,
    /// Faults that strike each time.
    lasting: Vec<(String, Fault)>,
    /// Posts that are held back.
    held: Option<Vec<Value>>,
    pace: (Duration, Duration),
    asked: Vec<Asked>,
    violations: Vec<String>,
    webhook: Option<Webhook>,
}

impl Waha {
    /// Starts a server with the sessions `default`, `second` and `third`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(personality: Personality) -> Result<Self> {
        let accounts = [
            ("default", "15550000001"),
            ("second", "15550000002"),
            ("third", "15550000003"),
        ];
        let accounts: BTreeMap<_, _> = accounts
            .into_iter()
            .map(|(session, phone)| (session.to_owned(), phone.to_owned()))
            .collect();
        let working = |session: &String| (session.clone(), Session::working());
        let inner = Inner {
            sessions: accounts.keys().map(working).collect(),
            ..Inner::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new_cyclic(|this| Shared {
            this: this.clone(),
            personality,
            accounts,
            feed: broadcast::channel(4_096).0,
            events: AtomicU64::new(0),
            hang_up: watch::Sender::new(()),
            inner: Mutex::new(inner),
        });
        let mut serving = JoinSet::new();
        serving.spawn(routes::serve(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            serving: Mutex::new(serving),
        })
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops serving; what it knows stays.
    pub async fn stop(&self) {
        let mut serving = {
            let mut serving = self.serving.lock();
            std::mem::take(&mut *serving)
        };
        serving.shutdown().await;
        self.shared.hang_up.send_replace(());
        while self.listeners() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Serves again, at the same address.
    ///
    /// # Errors
    /// When somebody else has taken the port.
    pub async fn resume(&self) -> Result<()> {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let shared = Arc::clone(&self.shared);
        let mut serving = self.serving.lock();
        serving.spawn(routes::serve(listener, shared));
        Ok(())
    }

    /// Switches quirks.
    pub fn set(&self, quirks: Quirks) {
        self.shared.lock().quirks = quirks;
    }

    /// Has webhooks sent.
    pub fn hook(&self, webhook: Webhook) {
        self.shared.lock().webhook = Some(webhook);
    }

    /// Each request takes so long before it is done, and so long after.
    pub fn pace(&self, before: Duration, after: Duration) {
        self.shared.lock().pace = (before, after);
    }

    /// Has something go wrong once, with the next request like `POST /groups` (the method, and what
    /// the path ends with).
    pub fn fail(&self, request: &str, fault: Fault) {
        self.shared
            .lock()
            .faults
            .push_back((request.to_owned(), fault));
    }

    /// Has something go wrong each time, until [`Waha::mend`], with requests like those of
    /// [`Waha::fail`].
    pub fn fail_always(&self, request: &str, fault: Fault) {
        self.shared.lock().lasting.push((request.to_owned(), fault));
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        let mut inner = self.shared.lock();
        inner.lasting.clear();
        inner.faults.clear();
    }

    /// Holds the webhooks back from now on.
    pub fn hold_posts(&self) {
        self.shared.lock().held.get_or_insert_default();
    }

    /// What is held back, in the order of its happening.
    #[must_use]
    pub fn held_posts(&self) -> Vec<Value> {
        self.shared.lock().held.clone().unwrap_or_default()
    }

    /// Posts what was held back, in an order of the test's own, one after the other as they are taken
    /// (`WAHA-API.md`, section 6: `session.status` out of order, retries).
    ///
    /// # Errors
    /// When there is nowhere to post to, or one is not answered.
    pub async fn release_posts(&self, order: impl FnOnce(&mut Vec<Value>)) -> Result<Vec<u16>> {
        let (held, webhook) = {
            let mut inner = self.shared.lock();
            (inner.held.take(), inner.webhook.clone())
        };
        let webhook = anyhow::Context::context(webhook, "a webhook")?;
        let mut held = held.unwrap_or_default();
        order(&mut held);
        let mut statuses = Vec::new();
        for envelope in held {
            let body = envelope.to_string();
            let signature = events::signature(&webhook.key, &body);
            let posted = events::post(&webhook.host, &webhook.path, &signature, body.as_bytes());
            statuses.push(posted.await?);
        }
        Ok(statuses)
    }

    /// How many faults have not struck yet.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        self.shared.lock().faults.len()
    }

    /// Gives a session another status, and tells.
    pub fn status(&self, session: &str, status: &str) {
        self.shared.set_status(session, status);
    }

    /// The group, whoever is in it.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<Group> {
        self.shared.lock().world.groups.get(id).cloned()
    }

    /// All groups.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        self.shared.lock().world.groups.values().cloned().collect()
    }

    /// An event's envelope, to be sent by the test itself.
    #[must_use]
    pub fn envelope(&self, session: &str, event: &str, payload: &Value) -> Value {
        self.shared.envelope(session, event, payload)
    }

    /// The requests that came.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// The requests that are not as WAHA's `OpenAPI` document has them.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }

    /// How many `WebSocket`s are open.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.shared.feed.receiver_count()
    }
}

impl Shared {
    fn quirks(&self) -> Quirks {
        self.lock().quirks
    }

    fn next_event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

/// Now, in milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a server's own clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or_default()
    })
}

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
mod routes;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use events::Webhook;
use model::{Group, World};

/// The key that every request must carry.
pub const KEY: &str = "waha-key";

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

/// What can be switched on, beside what an engine always does.
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Groups are addressed by private ids.
    pub lids: bool,
    /// And the phones behind them are told by `participants/v2` and `lids` alone.
    pub secret_phones: bool,
    /// POST answers 200 and not `NestJS`'s 201.
    pub post_is_200: bool,
    /// Invite codes are told as the whole link.
    pub invite_is_link: bool,
    /// Texts are sent in JSON's quotes.
    pub quoted_texts: bool,
    /// The list of groups begins with one that is not loaded (GOWS).
    pub stubs: bool,
    /// The deprecated events are sent beside the new ones (WEBJS).
    pub older_events: bool,
    /// Every event is sent twice, with two ids.
    pub doubled_events: bool,
    /// No events are sent: they are lost.
    pub deaf: bool,
    /// WhatsApp Web refuses every change of people and says 200 (WAHA#1264, WEBJS).
    pub silent_refusals: bool,
}

/// What goes wrong with the next requests, once each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status and body, and nothing is done.
    Answer(u16, String),
    /// It is done, and this is said.
    DoneButSays(u16, String),
    /// It is done after so long, and the connection is closed without an answer.
    DoneInSilence(Duration),
    /// The connection is closed, and nothing is done.
    Closed,
    /// WhatsApp refuses with this code.
    WhatsApp(u16),
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
    statuses: BTreeMap<String, String>,
    faults: VecDeque<(String, Fault)>,
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
        let working = |session: &String| (session.clone(), "WORKING".to_owned());
        let inner = Inner {
            statuses: accounts.keys().map(working).collect(),
            ..Inner::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
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
            let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// How many faults have not struck yet.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        self.shared.lock().faults.len()
    }

    /// Gives a session another status, and tells.
    pub fn status(&self, session: &str, status: &str) {
        let mut inner = self.shared.lock();
        inner.statuses.insert(session.to_owned(), status.to_owned());
        drop(inner);
        self.shared.status_changed(session, status);
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

    /// Somebody with a phone changes a group; returns whether there is such a group.
    pub fn by_hand(&self, id: &str, hand: impl FnOnce(&mut ByHand<'_>)) -> bool {
        let mut inner = self.shared.lock();
        let Some(group) = inner.world.groups.get_mut(id) else {
            return false;
        };
        let mut by_hand = ByHand {
            group,
            changes: Vec::new(),
        };
        hand(&mut by_hand);
        let changes = by_hand.changes;
        let group = group.clone();
        drop(inner);
        for change in changes {
            self.shared.tell(&group, &change);
        }
        true
    }

    /// Somebody else creates a group.
    pub fn created_by_hand(&self, owner: &str, subject: &str, people: &[&str]) -> String {
        let people: Vec<_> = people.iter().map(|it| (*it).to_owned()).collect();
        let mut inner = self.shared.lock();
        let now = now_ms() / 1_000;
        let (id, _) = inner.world.create(owner, subject, &people, now);
        let group = inner.world.groups.get(&id).cloned();
        drop(inner);
        if let Some(group) = group {
            self.shared.tell(&group, &model::Change::Created);
        }
        id
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

/// A group in the hands of somebody with a phone.
#[derive(Debug)]
pub struct ByHand<'a> {
    group: &'a mut Group,
    changes: Vec<model::Change>,
}

impl ByHand<'_> {
    /// People are added.
    pub fn add(&mut self, people: &[&str]) {
        let people: Vec<_> = people.iter().map(|it| (*it).to_owned()).collect();
        let (_, changes) = self.group.add(&people);
        self.changes.extend(changes);
    }

    /// People are removed, by an admin.
    pub fn remove(&mut self, people: &[&str]) {
        let people: Vec<_> = people.iter().map(|it| (*it).to_owned()).collect();
        for phone in &people {
            self.group.members.retain(|(it, _)| it != phone);
            self.group.former.insert(phone.clone(), false);
        }
        self.changes.push(model::Change::Removed(people));
    }

    /// Somebody becomes an admin.
    pub fn promote(&mut self, phone: &str) {
        let owner = self.group.owner.clone();
        let people = [phone.to_owned()];
        if let Ok((_, changes)) = self.group.rank(&owner, &people, model::Role::Admin) {
            self.changes.extend(changes);
        }
    }

    /// Somebody is no admin any more.
    pub fn demote(&mut self, phone: &str) {
        let owner = self.group.owner.clone();
        let people = [phone.to_owned()];
        if let Ok((_, changes)) = self.group.rank(&owner, &people, model::Role::Member) {
            self.changes.extend(changes);
        }
    }

    /// The group gets another subject.
    pub fn subject(&mut self, subject: &str) {
        subject.clone_into(&mut self.group.subject);
        self.changes.push(model::Change::Subject);
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
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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

//! The sandbox's own memory, read beside the worker: what commands did, whatever was answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use groupmq::clock::SystemClock;
use groupmq::config;
use groupmq::contract::{GroupId, ListGroups};
use groupmq::store::Store;
use groupmq::store::sandbox_groups::SandboxGroup;

/// The account of the session `default`.
pub(crate) const ACCOUNT: &str = "15550000001@c.us";

/// A session and its account.
pub(crate) type Account = (String, String);

/// The session `default` and its account.
pub(crate) fn default_account() -> Account {
    ("default".to_owned(), ACCOUNT.to_owned())
}

/// A group, and the ids of the commands that changed it, in order.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// The session that sees it.
    session: String,
    pub(crate) state: SandboxGroup,
    pub(crate) changed_by: Vec<String>,
}

impl Remembered {
    /// How many events its session has to have seen.
    pub(crate) fn events(&self) -> u64 {
        let session = self.session.parse().unwrap();
        self.state.sequences.get(&session).copied().unwrap_or(0)
    }
}

/// Every group that the session `default` is in, by its id.
pub(crate) async fn groups(store: &str) -> BTreeMap<String, Remembered> {
    groups_of(store, &[default_account()]).await
}

/// Every group that one of some sessions is in, by its id; no two of them are in the same one.
pub(crate) async fn groups_of(store: &str, accounts: &[Account]) -> BTreeMap<String, Remembered> {
    let store = open(store).await;
    let groups = store.sandbox_groups();
    let mut remembered = BTreeMap::new();
    for (session, account) in accounts {
        let account = account.parse().unwrap();
        let all = groups.of_account(&account, &ListGroups::default()).await;
        for (id, state) in all.unwrap() {
            let changed_by = history_of(&store, &id).await;
            let group = Remembered {
                session: session.clone(),
                state,
                changed_by,
            };
            assert!(remembered.insert(id.to_string(), group).is_none());
        }
    }
    remembered
}

/// The ids of the commands that changed a group, in order, whoever is in it.
pub(crate) async fn history(store: &str, group: &str) -> Vec<String> {
    history_of(&open(store).await, &group.parse().unwrap()).await
}

async fn history_of(store: &Store, id: &GroupId) -> Vec<String> {
    let entries = store.sandbox_groups().history(id).await.unwrap();
    let numbers: Vec<_> = entries.iter().map(|entry| entry.n).collect();
    let wanted: Vec<_> = (1..).take(entries.len()).collect();
    assert_eq!(numbers, wanted, "{id}");
    entries.into_iter().map(|entry| entry.command_id).collect()
}

async fn open(url: &str) -> Store {
    let settings = config::Store {
        url: url.into(),
        url_file: None,
        connections: 1,
        timeout: Duration::from_secs(30),
    };
    // Its writer is not run: this only reads.
    let (store, _writer) = Store::open(&settings, Arc::new(SystemClock)).await.unwrap();
    store
}

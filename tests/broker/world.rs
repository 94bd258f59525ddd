//! The sandbox's own memory, read beside the worker: what commands did, whatever was answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use groupmq::clock::SystemClock;
use groupmq::config;
use groupmq::contract::{GroupId, ListGroups};
use groupmq::store::Store;
use groupmq::store::sandbox_groups::GroupState;

/// The account of the session `default`.
pub(crate) const ACCOUNT: &str = "15550000001@c.us";

/// A group, and the ids of the commands that changed it, in order.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) state: GroupState,
    pub(crate) changed_by: Vec<String>,
}

impl Remembered {
    /// How many events the session `default` has to have seen.
    pub(crate) fn events(&self) -> u64 {
        let session = "default".parse().unwrap();
        self.state.sequences.get(&session).copied().unwrap_or(0)
    }
}

/// Every group that the session `default` is in, by its id.
pub(crate) async fn groups(store: &str) -> BTreeMap<String, Remembered> {
    let store = open(store).await;
    let groups = store.sandbox_groups();
    let account = ACCOUNT.parse().unwrap();
    let all = groups.of_account(&account, &ListGroups::default()).await;
    let mut remembered = BTreeMap::new();
    for (id, state) in all.unwrap() {
        let changed_by = history_of(&store, &id).await;
        let group = Remembered { state, changed_by };
        remembered.insert(id.to_string(), group);
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
        connections: 1,
        timeout: Duration::from_secs(30),
    };
    // Its writer is not run: this only reads.
    let (store, _writer) = Store::open(&settings, Arc::new(SystemClock)).await.unwrap();
    store
}

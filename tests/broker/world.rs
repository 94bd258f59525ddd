//! The sandbox's own memory, read beside the worker: what commands did, whatever was answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use groupmq::clock::{Clock as _, SystemClock};
use groupmq::config;
use groupmq::contract::{
    CommandType, GroupId, GroupSettings, ListGroups, ParticipantId, Role, Timestamp,
};
use groupmq::store::Store;
use groupmq::store::ledger::{Key, Record};
use groupmq::store::sandbox_groups::{Member, SandboxGroup, SandboxGroups, World};
use serde_json::value::to_raw_value;

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

/// Adds groups with the longest description there may be, whose only member is the session `default`.
pub(crate) async fn fill(url: &str, groups: usize) {
    let settings = settings(url);
    let (store, writer) = Store::open(&settings, Arc::new(SystemClock)).await.unwrap();
    let filling = async move {
        let all: Vec<_> = (0..groups).collect();
        for numbers in all.chunks(500) {
            add(&store.sandbox_groups(), numbers.to_vec()).await;
        }
        // With it the last handle to the writer goes.
        drop(store);
    };
    tokio::join!(filling, writer);
}

async fn add(groups: &SandboxGroups, numbers: Vec<usize>) {
    let key = Key {
        session: "default".parse().unwrap(),
        command_id: format!("fill-{}", numbers[0]).parse().unwrap(),
    };
    let ids = numbers.iter().map(|n| numbered(*n)).collect();
    let step = move |world: &mut World<'_>| {
        let at = Timestamp(SystemClock.now());
        for n in &numbers {
            world.insert(&numbered(*n), described(*n, at));
            world.changed(&numbered(*n), CommandType::CreateGroup, at);
        }
        Ok(Record {
            outcome: Ok(to_raw_value(&true).unwrap()),
            events: Vec::new(),
            at,
        })
    };
    groups.change(key, [0; 32], ids, step).await.unwrap();
}

fn numbered(n: usize) -> GroupId {
    format!("120363{n:012}@g.us").parse().unwrap()
}

fn described(n: usize, at: Timestamp) -> SandboxGroup {
    let account: ParticipantId = ACCOUNT.parse().unwrap();
    let role = Role::Superadmin;
    SandboxGroup {
        subject: "Described".parse().unwrap(),
        description: "\u{1f600}".repeat(2048).parse().unwrap(),
        owner: account.clone(),
        created_at: at,
        settings: GroupSettings::OF_NEW_GROUPS,
        invite_code: format!("Code{n:018}"),
        code_listed: false,
        picture: None,
        members: [(account, Member { role, number: 0 })].into(),
        former: BTreeMap::new(),
        waiting: BTreeMap::new(),
        joined: 1,
        sequences: BTreeMap::new(),
        changes: 0,
    }
}

async fn history_of(store: &Store, id: &GroupId) -> Vec<String> {
    let entries = store.sandbox_groups().history(id).await.unwrap();
    let numbers: Vec<_> = entries.iter().map(|entry| entry.n).collect();
    let wanted: Vec<_> = (1..).take(entries.len()).collect();
    assert_eq!(numbers, wanted, "{id}");
    entries.into_iter().map(|entry| entry.command_id).collect()
}

async fn open(url: &str) -> Store {
    let settings = settings(url);
    // Its writer is not run: this only reads.
    let (store, _writer) = Store::open(&settings, Arc::new(SystemClock)).await.unwrap();
    store
}

fn settings(url: &str) -> config::Store {
    config::Store {
        url: url.into(),
        url_file: None,
        connections: 1,
        timeout: Duration::from_secs(30),
    }
}

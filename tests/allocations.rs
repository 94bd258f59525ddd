//! What a command costs, by a measure that no other program on the machine disturbs: allocations from the message's
//! bytes to the bytes of its reply and events, through decoder, ledger, engine and store.
//!
//! Alone in its binary, since it counts what the whole process allocates.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper may stop the test"
)]

use std::sync::Arc;

use futures_util::future::join_all;
use groupmq::clock::{Clock, SystemClock};
use groupmq::config::{self, Sources};
use groupmq::contract::Timestamp;
use groupmq::engines::pictures::Pictures;
use groupmq::engines::sandbox::Sandbox;
use groupmq::engines::{Context, ResultLimit};
use groupmq::executor::{Decoder, Executor, RawCommand, RetryState, Verdict};
use groupmq::outbound::{AddressPolicy, Outbound};
use groupmq::store::Store;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Commands that run at the same time, each in a group of its own, so that the store writes them together.
const AT_ONCE: usize = 64;
/// Rounds that are measured.
const ROUNDS: usize = 8;

/// What a command allocates: how often, and how many bytes in all.
#[derive(Debug)]
struct Allocated {
    blocks: u64,
    bytes: u64,
}

/// Per command. A change that makes one cheaper lowers its figures here.
const CHANGING: Allocated = Allocated {
    blocks: 167,
    bytes: 30_846,
};
const READING: Allocated = Allocated {
    blocks: 74,
    bytes: 13_894,
};

/// By how many percent a figure may differ.
const MORE: u64 = 10;

#[test]
fn a_command_allocates_no_more_than_it_did() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let executor = executor(folder.path()).await;
        let create = messages(
            "create",
            "CreateGroup",
            |_| json!({ "name": "Group", "participants": [] }),
        );
        let created = run(&executor, &create).await;
        let groups: Vec<Value> = created
            .iter()
            .map(|reply| serde_json::from_slice::<Value>(reply).unwrap()["result"]["id"].take())
            .collect();
        let change = |round: usize| {
            messages(
                &format!("change-{round}"),
                "SetGroupSubject",
                |n| json!({ "groupId": groups[n], "subject": format!("Subject {round}") }),
            )
        };
        let read = |round: usize| {
            messages(
                &format!("read-{round}"),
                "GetGroup",
                |n| json!({ "groupId": groups[n] }),
            )
        };
        // What is made once: compiled schemas, prepared statements.
        run(&executor, &change(ROUNDS)).await;
        run(&executor, &read(ROUNDS)).await;

        let changes: Vec<_> = (0..ROUNDS).map(change).collect();
        let reads: Vec<_> = (0..ROUNDS).map(read).collect();
        let _profiler = dhat::Profiler::builder().testing().build();
        let changing = allocations(&executor, &changes).await;
        let reading = allocations(&executor, &reads).await;
        compare("CHANGING", &changing, &CHANGING);
        compare("READING", &reading, &READING);
    });
}

fn compare(name: &str, now: &Allocated, before: &Allocated) {
    let differs = |now: u64, before: u64| {
        now * 100 > before * (100 + MORE) || now * (100 + MORE) < before * 100
    };
    assert!(
        !differs(now.blocks, before.blocks) && !differs(now.bytes, before.bytes),
        "{name}: {now:?} per command, and it was {before:?}; if it is less, or the change is worth it, write the new \
         figures into {}",
        file!()
    );
}

/// What a command allocates.
async fn allocations(executor: &Executor, rounds: &[Vec<Vec<u8>>]) -> Allocated {
    let before = dhat::HeapStats::get();
    for round in rounds {
        run(executor, round).await;
    }
    let after = dhat::HeapStats::get();
    let commands = u64::try_from(AT_ONCE * ROUNDS).unwrap();
    Allocated {
        blocks: (after.total_blocks - before.total_blocks) / commands,
        bytes: (after.total_bytes - before.total_bytes) / commands,
    }
}

/// The executor as a worker has it, over the sandbox and a new SQLite store.
async fn executor(folder: &std::path::Path) -> Executor {
    let mut config = Sources::default().load().unwrap();
    config.store.url = format!("sqlite:{}", folder.join("store.db").display()).into();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (store, writer) = Store::open(&config.store, clock.clone()).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test has no lifecycle")]
    tokio::spawn(writer);
    let pictures = Pictures::new(Outbound::new(&config.egress, AddressPolicy::PublicOnly).unwrap());
    let config::Engine::Sandbox(sandbox) = config.engine.clone() else {
        panic!("the sandbox is the default");
    };
    let limit = ResultLimit::of_messages(config.amqp.message_max);
    let engine = Sandbox::new(store.clone(), sandbox, clock.clone(), pictures, limit);
    Executor::new(Arc::new(engine), &store, Decoder::new(), clock, &config)
}

fn messages(id: &str, command: &str, payload: impl Fn(usize) -> Value) -> Vec<Vec<u8>> {
    let message = |n| {
        json!({
            "id": format!("{id}-{n}"), "type": command, "session": "default", "payload": payload(n),
        })
    };
    (0..AT_ONCE)
        .map(|n| message(n).to_string().into_bytes())
        .collect()
}

/// Executes messages at the same time; returns their replies.
async fn run(executor: &Executor, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    join_all(messages.iter().map(|body| reply(executor, body))).await
}

/// The bytes of a reply, after those of the events.
async fn reply(executor: &Executor, body: &[u8]) -> Vec<u8> {
    let raw = RawCommand {
        body,
        session: Some("default"),
        ..RawCommand::default()
    };
    let accepted = executor.admit(&raw).unwrap();
    let retry = RetryState {
        attempts: 0,
        first_seen: Timestamp(SystemClock.now()),
        cause: None,
    };
    let verdict = executor.run(&accepted, &retry, &Context::default()).await;
    let Ok(Verdict::Answered(outcome)) = verdict else {
        panic!("not answered: {verdict:?}");
    };
    assert_eq!(outcome.reply.error, None);
    for event in &outcome.events {
        serde_json::to_vec(event).unwrap();
    }
    serde_json::to_vec(&outcome.reply).unwrap()
}

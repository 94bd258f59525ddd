//! What grows with the number of groups and sessions: each operation of the sandbox beside itself, with few and with
//! many, in one run: `cargo bench --bench scale`. `GROUPMQ_SCALE_GROUPS` sets how many are many.
//!
//! The stores are SQLite files in a temporary folder. Each figure is the median of many single operations, measured
//! by turns, so that drift concerns both alike. Memory is that of this process.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may stop")]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "it has no lifecycle and reads its own settings"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use groupmq::clock::{Clock, SystemClock};
use groupmq::config;
use groupmq::contract::{
    CommandType, Description, GroupId, GroupSettings, ParticipantId, Role, Timestamp,
};
use groupmq::engines::pictures::Pictures;
use groupmq::engines::sandbox::Sandbox;
use groupmq::engines::{Call, Context, Effect, Engine as _, EngineError, ResultLimit};
use groupmq::outbound::{AddressPolicy, Outbound};
use groupmq::store::Store;
use groupmq::store::ledger::{Key, Record};
use groupmq::store::sandbox_groups::{Member, SandboxGroup, World};
use serde_json::{Value, json};

/// The account of the session `default`, which is in all groups.
const ME: &str = "491700000001@c.us";
/// People in each group.
const PEOPLE: usize = 21;
/// Groups and sessions of the small case.
const FEW: (usize, usize) = (1_000, 10);
/// Sessions of the large case.
const MANY_SESSIONS: usize = 10_000;
/// Groups that are created in one transaction.
const AT_ONCE: usize = 500;
/// How often each operation is measured.
const TIMES: usize = 101;

/// A sandbox with so many groups, and the number of commands so far.
struct Place {
    engine: Sandbox,
    groups: usize,
    commands: AtomicUsize,
}

#[tokio::main]
async fn main() {
    let many = std::env::var("GROUPMQ_SCALE_GROUPS").map_or(100_000, |it| it.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let small = Place::filled(folder.path(), FEW.0, FEW.1).await;
    let large = Place::filled(folder.path(), many, MANY_SESSIONS).await;
    println!(
        "{:<38} {:>10} {:>10} {:>7}   ({} and {many} groups of {PEOPLE}, {} and {MANY_SESSIONS} sessions)",
        "", "few", "many", "ratio", FEW.0, FEW.1
    );
    let id = |n: usize| json!({"groupId": group_id(n)});
    let subject =
        |n: usize, id: usize| json!({"groupId": group_id(n), "subject": format!("Renamed {id}")});
    let page = |by: &str, order: &str| json!({"limit": 10, "sortBy": by, "sortOrder": order});
    let deep = |groups: usize, by: &str| json!({"limit": 10, "sortBy": by, "offset": groups / 2});
    compare("SetGroupSubject", &small, &large, |world, n| {
        ("SetGroupSubject", subject(n * 7919 % world.groups, n))
    })
    .await;
    compare("GetGroup", &small, &large, |world, n| {
        ("GetGroup", id(n * 7919 % world.groups))
    })
    .await;
    for (by, order) in [
        ("id", "asc"),
        ("id", "desc"),
        ("subject", "asc"),
        ("subject", "desc"),
    ] {
        let name = format!("ListGroups limit 10 by {by}, {order}");
        compare(&name, &small, &large, |_, _| {
            ("ListGroups", page(by, order))
        })
        .await;
    }
    for by in ["id", "subject"] {
        let name = format!("ListGroups limit 10 by {by}, half-way");
        compare(&name, &small, &large, |world, _| {
            ("ListGroups", deep(world.groups, by))
        })
        .await;
    }
    compare("CountGroups", &small, &large, |_, _| {
        ("CountGroups", json!({}))
    })
    .await;
    compare("ListLids limit 10", &small, &large, |_, _| {
        ("ListLids", json!({"limit": 10}))
    })
    .await;
    compare("GetLidByPhone", &small, &large, |_, n| {
        ("GetLidByPhone", json!({"phone": person(n, 1)}))
    })
    .await;
    memory("ListGroups of all", &large, "ListGroups").await;
    memory("CountLids", &large, "CountLids").await;
}

async fn compare(
    name: &str,
    small: &Place,
    large: &Place,
    command: impl Fn(&Place, usize) -> (&'static str, Value),
) {
    let mut times = [Vec::new(), Vec::new()];
    for n in 0..TIMES {
        for (world, times) in [small, large].into_iter().zip(&mut times) {
            let (kind, payload) = command(world, n);
            let begun = Instant::now();
            world.run(kind, payload).await.unwrap();
            times.push(begun.elapsed());
        }
    }
    let [few, many] = times.map(|mut times| {
        times.sort_unstable();
        times[TIMES / 2].as_secs_f64() * 1e6
    });
    println!(
        "{name:<38} {few:>7.0} µs {many:>7.0} µs {:>7.2}",
        many / few
    );
}

/// Memory before, at most, and after one command.
async fn memory(name: &str, world: &Place, kind: &'static str) {
    // Lets the peak begin anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, begun) = (status("VmRSS:"), Instant::now());
    let answer = world.run(kind, json!({})).await;
    let (took, peak) = (begun.elapsed(), status("VmHWM:"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let outcome = match answer {
        Ok(effect) => format!("{} bytes", effect.result.get().len()),
        Err(error) => error.to_string(),
    };
    println!(
        "{name}: {before:.0} MB before, {peak:.0} at most, {:.0} afterwards, {} ms; {outcome}",
        status("VmRSS:"),
        took.as_millis()
    );
}

/// Megabytes, from `/proc/self/status`.
fn status(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let number: u32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    f64::from(number) / 1024.0
}

impl Place {
    async fn filled(folder: &Path, groups: usize, sessions: usize) -> Self {
        let file = folder.join(format!("{groups}.db"));
        let store = config::Store {
            url: format!("sqlite:{}", file.display()).into(),
            url_file: None,
            connections: 4,
            timeout: Duration::from_mins(1),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (store, writer) = Store::open(&store, clock.clone()).await.unwrap();
        tokio::spawn(writer);
        let begun = Instant::now();
        for first in (0..groups).step_by(AT_ONCE) {
            create(&store, first, AT_ONCE.min(groups - first)).await;
        }
        println!(
            "{groups} groups created in {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        let others = (0..sessions).map(|n| (format!("s{n}"), format!("4916{n:08}@c.us")));
        let sessions = [("default".to_owned(), ME.to_owned())]
            .into_iter()
            .chain(others);
        let config = config::Sandbox {
            sessions: sessions
                .map(|(name, phone)| (name.parse().unwrap(), phone.parse().unwrap()))
                .collect(),
            ..config::Sandbox::default()
        };
        let egress = config::Sources::default().load().unwrap().egress;
        let outbound = Outbound::new(&egress, AddressPolicy::PublicOnly).unwrap();
        let limit = ResultLimit::of_messages(16 << 20);
        Self {
            engine: Sandbox::new(store, config, clock, Pictures::new(outbound), limit),
            groups,
            commands: AtomicUsize::new(0),
        }
    }

    async fn run(&self, kind: &str, payload: Value) -> Result<Effect, EngineError> {
        let kind: CommandType = kind.parse().unwrap();
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let call = Call {
            id: format!("c{number}").parse().unwrap(),
            session: "default".parse().unwrap(),
            command: kind.read(payload).unwrap(),
            fingerprint: [0; 32],
            part: None,
            context: Context::default(),
        };
        self.engine.execute(&call).await
    }
}

/// Creates groups in one transaction, without events.
async fn create(store: &Store, first: usize, count: usize) {
    let key = Key {
        session: "default".parse().unwrap(),
        command_id: format!("create-{first}").parse().unwrap(),
    };
    let ids = (first..first + count).map(group_id).collect();
    let step = move |world: &mut World<'_>| {
        let now = Timestamp(jiff::Timestamp::UNIX_EPOCH);
        for n in first..first + count {
            let id = group_id(n);
            world.insert(&id, group(n));
            world.changed(&id, CommandType::CreateGroup, now);
        }
        Ok(Record {
            outcome: Ok(serde_json::value::to_raw_value(&true).unwrap()),
            events: Vec::new(),
            at: now,
        })
    };
    let groups = store.sandbox_groups();
    groups.change(key, [0; 32], ids, step).await.unwrap();
}

fn group_id(n: usize) -> GroupId {
    format!("120363{n:012}@g.us").parse().unwrap()
}

/// A member of a group; many are in several.
fn person(group: usize, n: usize) -> ParticipantId {
    let number = (group / 7 * 13 + n) % 1_000_000;
    format!("4915{number:08}@c.us").parse().unwrap()
}

fn group(n: usize) -> SandboxGroup {
    let mut members: BTreeMap<ParticipantId, Member> = (1..PEOPLE)
        .zip(1..)
        .map(|(who, number)| {
            let role = Role::Participant;
            (person(n, who), Member { role, number })
        })
        .collect();
    let role = Role::Superadmin;
    members.insert(ME.parse().unwrap(), Member { role, number: 0 });
    SandboxGroup {
        // In another order than the ids.
        subject: format!("Group {}", n * 7919 % 1_000_003).parse().unwrap(),
        description: Description::default(),
        owner: ME.parse().unwrap(),
        created_at: Timestamp(jiff::Timestamp::UNIX_EPOCH),
        settings: GroupSettings::OF_NEW_GROUPS,
        invite_code: format!("Code{n:018}"),
        code_listed: false,
        picture: None,
        members,
        former: BTreeMap::new(),
        waiting: BTreeMap::new(),
        joined: 21,
        sequences: BTreeMap::new(),
        changes: 0,
    }
}

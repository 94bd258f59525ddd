//! Workers that share shards while commands of many sessions flow: whatever happens to one of them,
//! and while the number of shards changes, each command is done once, in the order of its group.

use std::cell::Cell;
use std::time::{Duration, Instant};

use groupmq_test_support::postgres::{Database, Postgres, psql};
use groupmq_test_support::producer::{Command, Producer};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker};
use nix::sys::signal::Signal;
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use serde_json::json;

use super::cli::run;
use super::load::Load;
use super::scene::{PATIENCE, create, options};
use super::shards::{EVEN_WITHIN, until_even};
use super::torture::{self, Chance};
use super::world::{self, Account};

const SESSIONS: usize = 40;
const GROUPS: usize = 80;
const BACKLOG: usize = 400;

/// What may befall a worker.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Killed,
    Stopped,
    Paused,
    Joined,
}

/// Sessions with an account each.
fn accounts() -> Vec<Account> {
    let account = |n| (format!("shop-{n}"), format!("1666000{n:04}@c.us"));
    (0..SESSIONS).map(account).collect()
}

pub(crate) fn with_sessions(mut options: Options) -> Options {
    for (session, account) in accounts() {
        let phone = account.trim_end_matches("@c.us").to_owned();
        options = options.set(&format!("engine.sandbox.sessions.{session}"), phone);
    }
    options
}

/// Creates the groups, each by the session whose turn it is.
pub(crate) async fn load(producer: &Producer) -> Load {
    let accounts = accounts();
    let id = |n| format!("group-{n}");
    let new = |n: usize| {
        let (session, _) = &accounts[n % accounts.len()];
        Command::new(&id(n), "CreateGroup", session, &create(&id(n)))
    };
    let commands = (0..GROUPS).map(new).collect();
    producer.send_all(commands).await.unwrap();
    let mut groups = Vec::new();
    for n in 0..GROUPS {
        let reply = producer.reply(&id(n)).await.unwrap();
        groups.push(reply["result"]["id"].as_str().unwrap().to_owned());
    }
    Load::of(groups, accounts)
}

async fn pause(chance: &mut Chance, most: u64) {
    let pause = chance.rng.random_range(0..most);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

/// Lets one thing happen, and waits until the shards are even again.
async fn happen(fate: Fate, workers: &mut Vec<Worker>, options: &Options, chance: &mut Chance) {
    let one = chance.rng.random_range(0..workers.len());
    let mut awakening = None;
    match fate {
        Fate::Killed => workers.remove(one).kill().unwrap(),
        Fate::Stopped => {
            let mut worker = workers.remove(one);
            assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
        }
        Fate::Paused => {
            let worker = workers.remove(one);
            worker.signal(Signal::SIGSTOP).unwrap();
            awakening = Some(worker);
        }
        Fate::Joined => workers.push(Worker::start(options).await.unwrap()),
    }
    until_even(workers, 16, EVEN_WITHIN).await;
    // It goes on with what it was about to do when others have had its shards for a while.
    if let Some(worker) = awakening {
        worker.signal(Signal::SIGCONT).unwrap();
        workers.push(worker);
    }
    while workers.len() < 4 {
        workers.push(Worker::start(options).await.unwrap());
    }
    workers.truncate(5);
    until_even(workers, 16, EVEN_WITHIN).await;
}

#[tokio::test]
async fn workers_that_die_stop_pause_and_join_lose_nothing_and_keep_every_order() {
    let mut chance = Chance::new();
    let broker = RabbitMq::shared().await.unwrap();
    let database = Postgres::shared().unwrap().database().unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = with_sessions(options(&broker.url(), &prefix))
        .set("topology.shards", "16")
        .set("store.url", &database.url)
        .set("store.timeout", "2s")
        .set("amqp.heartbeat", "2s");
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(Worker::start(&options).await.unwrap());
    }
    until_even(&workers, 16, EVEN_WITHIN).await;
    let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
    let mut load = load(&producer).await;
    let enough = Cell::new(false);
    let ordeal = async {
        // Four of them in `make test`; more where more is asked for.
        let rounds = torture::kills(5).div_ceil(5);
        for _ in 0..rounds {
            let mut fates = [Fate::Killed, Fate::Stopped, Fate::Paused, Fate::Joined];
            fates.shuffle(&mut chance.rng);
            for fate in fates {
                pause(&mut chance, 1_000).await;
                let begun = Instant::now();
                happen(fate, &mut workers, &options, &mut chance).await;
                println!("{fate:?}: over after {:?}", begun.elapsed());
            }
        }
        enough.set(true);
    };
    tokio::join!(load.feed(&producer, BACKLOG, &enough), ordeal);
    let counted = load.assert_once_each(&producer, &database.url).await;
    println!("{counted}");
}

/// Changes the number of shards while the producer goes on. It is cut off at two moments at first.
async fn reshard(
    options: &Options,
    load: &mut Load,
    producer: &Producer,
    to: u16,
    chance: &mut Chance,
) {
    let enough = Cell::new(false);
    let options = options.clone().set("topology.shards", to.to_string());
    let moving = async {
        for _ in 0..2 {
            let mut cut_off = options.command(&["topology", "reshard"]).spawn().unwrap();
            pause(chance, 2_500).await;
            cut_off.kill().unwrap();
            println!("cut off: {}", cut_off.wait().unwrap());
        }
        let done = run(&options, &["topology", "reshard"]).await;
        assert_eq!(done.code, 0, "{done:?}");
        println!("{}", done.out.trim_end());
        enough.set(true);
    };
    // However long it takes: what waits in a failing group costs more the more of it there is.
    let most = load.count() + 1_000;
    let feeding = async {
        while !enough.get() {
            if load.count() < most {
                producer.send_all(load.next(20)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(feeding, moving);
}

/// With `settings` until the last change is made, and without them to the end.
async fn resharded(settings: impl Fn(Options) -> Options) {
    let mut chance = Chance::new();
    println!("seed {}", chance.seed);
    let broker = RabbitMq::shared().await.unwrap();
    let database = Postgres::shared().unwrap().database().unwrap();
    let prefix = groupmq_test_support::prefix();
    let plain = with_sessions(options(&broker.url(), &prefix))
        .set("store.url", &database.url)
        .set("topology.shards", "1");
    let options = settings(plain.clone());
    let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
    let mut worker = Worker::start(&options).await.unwrap();
    let mut load = load(&producer).await;
    for (from, to) in [(1_u16, 4_u16), (4, 7), (7, 2), (2, 1)] {
        // While a worker runs, nothing is changed.
        let wish = options.clone().set("topology.shards", to.to_string());
        let refused = run(&wish, &["topology", "reshard"]).await;
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("stop all of them"), "{refused:?}");

        producer.send_all(load.next(600)).await.unwrap();
        assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
        producer.send_all(load.next(200)).await.unwrap();
        reshard(&options, &mut load, &producer, to, &mut chance).await;
        worker = Worker::start(&wish).await.unwrap();
        println!("from {from} to {to}: {} commands so far", load.count());
        producer.answered(load.count() / 2, PATIENCE).await.unwrap();
    }
    assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
    let _last = Worker::start(&plain).await.unwrap();
    let counted = load.assert_once_each(&producer, &database.url).await;
    println!("{counted}");
}

#[tokio::test]
async fn another_number_of_shards_loses_nothing_and_keeps_every_order() {
    resharded(|options| options).await;
}

#[tokio::test]
async fn commands_that_rest_come_back_to_where_their_session_is_by_then() {
    resharded(|options| {
        let options = options
            .set("retry.within", "0s")
            .set("retry.attempts", "1000")
            .set("topology.delay_tiers", "50ms,500ms");
        accounts().iter().take(10).fold(options, |options, it| {
            let key = format!("engine.sandbox.faults.{}.error_rate", it.0);
            options.set(&key, "0.2")
        })
    })
    .await;
}

#[tokio::test]
async fn a_command_whose_worker_lost_its_shard_in_an_outage_of_the_store_is_done_by_the_next() {
    let broker = RabbitMq::shared().await.unwrap();
    let database = Postgres::shared().unwrap().database().unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = options(&broker.url(), &prefix)
        .set("topology.shards", "1")
        .set("store.url", &database.url)
        .set("store.timeout", "2s")
        .set("amqp.heartbeat", "2s");
    let mut first = Worker::start(&options).await.unwrap();
    let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
    let new = Command::new("new", "CreateGroup", "default", &create("one"));
    let made = producer.call(new).await.unwrap();
    let group = made["result"]["id"].as_str().unwrap();
    let second = [Worker::start(&options).await.unwrap()];

    // The first has started the command when the store does not let it go on.
    let url = database.url.clone();
    let lock = "BEGIN; LOCK TABLE sandbox_groups; SELECT pg_sleep(5); COMMIT";
    let locked = std::thread::spawn(move || psql(&url, &["-c", lock]).unwrap());
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
                AND relation = 'sandbox_groups'::regclass";
    until(&database, held).await;
    let payload = json!({"groupId": group, "subject": "another"});
    let rename = Command::new("rename", "SetGroupSubject", "default", &payload);
    producer.send(rename).await.unwrap();
    let started = "SELECT count(*) FROM ledger WHERE command_id = 'rename'";
    until(&database, started).await;
    first.signal(Signal::SIGSTOP).unwrap();
    until_even(&second, 1, EVEN_WITHIN).await;
    first.signal(Signal::SIGCONT).unwrap();
    locked.join().unwrap();

    let reply = producer.reply("rename").await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
    assert!(first.ended().unwrap().is_none(), "{}", first.log_tail());
    let history = world::history(&database.url, group).await;
    assert_eq!(history, ["new", "rename"]);
}

/// Waits until a query counts one.
async fn until(database: &Database, count: &str) {
    let begun = Instant::now();
    while database.run(&[count]).unwrap().trim() != "1" {
        assert!(begun.elapsed() < PATIENCE, "{count}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! The deeds of an operator, one function each; all of them put right what they have done.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use groupmq_test_support::worker::Worker;
use nix::sys::signal::Signal;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use sqlx::{Connection as _, Executor as _};

use super::installation::{Backing, Installation};
use crate::torture;

/// A deed and what it is called.
pub(super) type Deed = (
    &'static str,
    for<'a> fn(&'a mut Installation) -> LocalBoxFuture<'a, ()>,
);

const DEEDS: &[Deed] = &[
    ("kill a worker", |it| Box::pin(async { kill_a_worker(it) })),
    ("kill all workers", |it| {
        Box::pin(async { kill_all_workers(it) })
    }),
    ("pause a worker", |it| Box::pin(pause_a_worker(it))),
    ("stop a worker", |it| Box::pin(stop_a_worker(it))),
    ("put a clock wrong", |it| {
        Box::pin(async { put_a_clock_wrong(it) })
    }),
    ("end the reader of a log", |it| {
        Box::pin(end_the_reader_of_a_log(it))
    }),
    ("close all connections", |it| {
        Box::pin(close_all_connections(it))
    }),
    ("disk alarm", |it| Box::pin(disk_alarm(it))),
    ("memory alarm", |it| Box::pin(memory_alarm(it))),
    ("stop the broker", |it| Box::pin(stop_the_broker(it))),
    ("kill the broker", |it| Box::pin(kill_the_broker(it))),
    ("take all rights", |it| Box::pin(take_all_rights(it))),
    ("limit the queues", |it| Box::pin(limit_the_queues(it))),
    ("delete a command queue", |it| {
        Box::pin(delete_a_command_queue(it))
    }),
    ("delete the queues of dead letters", |it| {
        Box::pin(delete_the_queues_of_dead_letters(it))
    }),
    ("delete the presence", |it| {
        Box::pin(delete_the_presence(it))
    }),
    ("delete the exchange commands", |it| {
        Box::pin(delete_exchange(it, "commands"))
    }),
    ("delete the exchange commands.shards", |it| {
        Box::pin(delete_exchange(it, "commands.shards"))
    }),
    ("delete the exchange replies", |it| {
        Box::pin(delete_exchange(it, "replies"))
    }),
    ("delete the exchange events", |it| {
        Box::pin(delete_exchange(it, "events"))
    }),
    ("delete the exchange dead", |it| {
        Box::pin(delete_exchange(it, "dead"))
    }),
    ("delete the exchange return", |it| {
        Box::pin(delete_exchange(it, "return"))
    }),
    ("delete the exchange orphan", |it| {
        Box::pin(delete_exchange(it, "orphan"))
    }),
    ("delete the exchange delay.1s", |it| {
        Box::pin(delete_exchange(it, "delay.1s"))
    }),
    ("delete the queue of an endpoint", |it| {
        Box::pin(delete_the_queue_of_an_endpoint(it))
    }),
    ("delete a delay queue", |it| {
        Box::pin(delete_a_delay_queue(it))
    }),
    ("lock the store", |it| Box::pin(lock_the_store(it))),
];

/// Those that need a server.
const ON_POSTGRES: &[Deed] = &[
    ("cut the store's connections", |it| {
        Box::pin(async { cut_the_stores_connections(it) })
    }),
    ("stop the store", |it| Box::pin(stop_the_store(it))),
    ("kill the store", |it| Box::pin(kill_the_store(it))),
];

/// Those that can be done to an installation.
pub(super) fn of(installation: &Installation) -> impl Iterator<Item = &'static Deed> {
    let more = match installation.backing {
        Backing::Postgres(..) => ON_POSTGRES,
        Backing::Sqlite(_) => &[],
    };
    let all = DEEDS.iter().chain(more);
    all.filter(|(name, _)| torture::is_wanted(name))
}

fn kill_a_worker(it: &mut Installation) {
    let mut worker = it.take_a_worker();
    worker.kill().unwrap();
    it.replace(&worker);
}

fn kill_all_workers(it: &mut Installation) {
    for _ in 0..it.workers.len() {
        kill_a_worker(it);
    }
}

async fn pause_a_worker(it: &mut Installation) {
    let worker = it.take_a_worker();
    worker.signal(Signal::SIGSTOP).unwrap();
    it.a_moment(8_000).await;
    worker.signal(Signal::SIGCONT).unwrap();
    it.workers.push(worker);
}

async fn stop_a_worker(it: &mut Installation) {
    let mut worker = it.take_a_worker();
    let code = worker.stop().await.unwrap();
    // Cut off where the store or the broker is away just now.
    assert!([0, 6].contains(&code), "{code}\n{}", worker.log_tail());
    it.replace(&worker);
}

/// From now on, one worker's is ten minutes fast or slow.
fn put_a_clock_wrong(it: &mut Installation) {
    let mut worker = it.take_a_worker();
    worker.kill().unwrap();
    let by = ["+10m", "-10m"].choose(&mut it.chance.rng).unwrap();
    let options = it.options.clone().with_clock_off_by(by);
    it.workers.push(Worker::spawn(&options).unwrap());
}

async fn end_the_reader_of_a_log(it: &mut Installation) {
    let mut worker = it.take_a_worker();
    worker.kill().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mute = Worker::spawn_logging_to(&it.options, writer).unwrap();
    it.a_moment(2_000).await;
    drop(reader);
    it.a_moment(5_000).await;
    let mut mute = mute;
    mute.kill().unwrap();
    it.replace(&worker);
}

async fn close_all_connections(it: &mut Installation) {
    ctl(it, &["close_all_connections", "as the test wants"]).await;
}

async fn disk_alarm(it: &mut Installation) {
    ctl(it, &["set_disk_free_limit", "100000GB"]).await;
    it.a_moment(6_000).await;
    ctl(it, &["set_disk_free_limit", "50MB"]).await;
}

async fn memory_alarm(it: &mut Installation) {
    ctl(it, &["set_vm_memory_high_watermark", "0.000001"]).await;
    it.a_moment(6_000).await;
    ctl(it, &["set_vm_memory_high_watermark", "0.4"]).await;
}

async fn stop_the_broker(it: &mut Installation) {
    it.broker.stop().await.unwrap();
    it.a_moment(3_000).await;
    it.broker.start_again().await.unwrap();
}

/// Not while a queue is new: RabbitMQ 3.10 notes only some seconds later where that queue's data are, and
/// never opens it again when it is killed before.
async fn kill_the_broker(it: &mut Installation) {
    tokio::time::sleep(Duration::from_secs(5)).await;
    it.broker.kill().await.unwrap();
    it.a_moment(3_000).await;
    it.broker.start_again().await.unwrap();
}

async fn take_all_rights(it: &mut Installation) {
    ctl(it, &["clear_permissions", "guest"]).await;
    it.a_moment(4_000).await;
    ctl(it, &["set_permissions", "guest", ".*", ".*", ".*"]).await;
}

/// Those from which a producer or the broker itself is refused, and sends again.
async fn limit_the_queues(it: &mut Installation) {
    let pattern = format!("^{}\\.(commands|delay|dead)\\.", it.prefix);
    let limit = r#"{"max-length": 2}"#;
    let set = [
        "set_policy",
        "--apply-to",
        "queues",
        "limit",
        &pattern,
        limit,
    ];
    ctl(it, &set).await;
    it.a_moment(6_000).await;
    ctl(it, &["clear_policy", "limit"]).await;
}

/// When nothing waits in it: what does would be gone.
async fn delete_a_command_queue(it: &mut Installation) {
    let shard = it.chance.rng.random_range(0..4);
    it.calm_down().await;
    let queue = format!("commands.{shard}");
    delete_queue(it, &queue).await;
    // What is sent before it is back goes to other shards, and no order holds between those.
    it.until_there(&queue).await;
    // Its binding follows the queue.
    tokio::time::sleep(Duration::from_secs(1)).await;
    it.rise();
}

async fn delete_the_queues_of_dead_letters(it: &mut Installation) {
    for name in ["dead.commands", "dead.webhooks", "orphan"] {
        delete_queue(it, name).await;
    }
}

async fn delete_the_presence(it: &mut Installation) {
    delete_queue(it, "presence").await;
}

async fn lock_the_store(it: &mut Installation) {
    let moment = Duration::from_millis(it.chance.rng.random_range(200..5_000));
    match &it.backing {
        Backing::Postgres(_, database) => {
            let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
            let all = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
            let tables: Vec<String> = sqlx::query_scalar(all)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            let table = tables.choose(&mut it.chance.rng).unwrap();
            let lock = format!("LOCK TABLE {table}");
            let mut locked = connection.begin().await.unwrap();
            locked.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
            tokio::time::sleep(moment).await;
            locked.rollback().await.unwrap();
        }
        Backing::Sqlite(_) => {
            let url = it.backing.url();
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            connection
                .execute("PRAGMA busy_timeout = 10000")
                .await
                .unwrap();
            connection.execute("BEGIN EXCLUSIVE").await.unwrap();
            tokio::time::sleep(moment).await;
            connection.execute("ROLLBACK").await.unwrap();
        }
    }
}

fn cut_the_stores_connections(it: &mut Installation) {
    if let Backing::Postgres(server, database) = &it.backing {
        server.cut_connections(database).unwrap();
    }
}

async fn stop_the_store(it: &mut Installation) {
    if let Backing::Postgres(server, _) = &mut it.backing {
        server.stop().unwrap();
    }
    start_the_store(it).await;
}

async fn kill_the_store(it: &mut Installation) {
    if let Backing::Postgres(server, _) = &mut it.backing {
        server.kill().unwrap();
    }
    start_the_store(it).await;
}

async fn start_the_store(it: &mut Installation) {
    it.a_moment(4_000).await;
    if let Backing::Postgres(server, _) = &mut it.backing {
        server.start_again().unwrap();
    }
}

/// When nothing waits in it, as with a command queue.
async fn delete_the_queue_of_an_endpoint(it: &mut Installation) {
    it.calm_down().await;
    delete_queue(it, "webhook.steady").await;
    // What happens before it is back is not collected for the endpoint.
    it.until_there("webhook.steady").await;
    it.rise();
}

/// When nothing rests in it.
async fn delete_a_delay_queue(it: &mut Installation) {
    it.calm_down().await;
    delete_queue(it, "delay.1s").await;
    it.rise();
}

/// The broker's own tool has no command for that.
async fn delete_exchange(it: &Installation, name: &str) {
    let delete = format!(
        "rabbit_exchange:delete(rabbit_misc:r(<<\"/\">>, exchange, <<\"{}.{name}\">>), false, <<\"test\">>).",
        it.prefix
    );
    ctl(it, &["eval", &delete]).await;
}

async fn delete_queue(it: &Installation, name: &str) {
    let queue = format!("{}.{name}", it.prefix);
    let deleted = it.broker.ctl(&["delete_queue", &queue]).await;
    // It may not be back yet after an earlier deed.
    let error = deleted.err().map(|error| error.to_string());
    assert!(
        error
            .as_ref()
            .is_none_or(|error| error.contains("not found")),
        "{error:?}"
    );
}

async fn ctl(it: &Installation, arguments: &[&str]) {
    it.broker.ctl(arguments).await.unwrap();
}

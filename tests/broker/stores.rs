//! A store that is deleted, replaced, copied, or not the broker's: no command has a second effect without an
//! operator's word for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::{Command as Sent, Producer, Seen};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker, store_in};
use serde_json::Value;
use tempfile::TempDir;

use super::cli::{Ran, run};
use super::queues::Queues;
use super::scene::{PATIENCE, Scene, create, options};

/// The exit code of a process whose store is not the one of the broker's commands.
const OTHER_STORE: i32 = 7;

/// A worker on a SQLite file, and a command that it has done.
struct Place {
    scene: Scene,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path());
        let scene = Scene::shared_with(|options| options.set("store.url", store)).await;
        let place = Self { scene, folder };
        place.create("made").await;
        place
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    async fn create(&self, id: &str) -> Value {
        let reply = self.scene.call(id, "CreateGroup", &create(id)).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        reply
    }

    /// Stops the worker, does something to its files, and does not start it again.
    async fn stopped(&mut self, act: impl FnOnce(&Path)) {
        assert_eq!(self.scene.worker.stop().await.unwrap(), 0);
        act(&self.file());
    }

    /// Removes the files beside the database, as the runbook says.
    fn remove_log(&self) {
        for end in ["-wal", "-shm"] {
            let beside = self.folder.path().join(format!("store.db{end}"));
            shell("rm", &[Path::new("-f"), &beside]);
        }
    }

    /// Starts a worker again, which refuses; returns its last words.
    async fn refused(&self) -> String {
        refused(&self.scene.options).await
    }

    async fn start_again(&mut self) {
        self.scene.worker = Worker::start(&self.scene.options).await.unwrap();
    }

    /// What the worker says when it ends by itself.
    async fn last_words(&mut self) -> String {
        let code = self.scene.worker.until_ended(PATIENCE).await.unwrap();
        let log = self.scene.worker.log();
        assert_eq!(code, OTHER_STORE, "{log}");
        log
    }

    /// Sends a command once more; returns its newest reply.
    async fn again(&self, id: &str) -> Value {
        let producer = &self.scene.producer;
        let direct = |seen: &Seen| {
            let replies = seen.replies(id).into_iter();
            replies.filter(|it| it.direct).collect::<Vec<_>>()
        };
        let before = direct(producer.seen()).len();
        producer.send(command(id)).await.unwrap();
        let more = |seen: &Seen| direct(seen).into_iter().nth(before);
        producer.until(PATIENCE, more).await.unwrap().body
    }

    /// How often a command made a group; at least once, by an event that may come after the reply.
    async fn effects(&self, id: &str) -> usize {
        let made = |it: &Value| it["event"] == "group.v2.join" && it["payload"]["commandId"] == id;
        let effects = |seen: &Seen| {
            let count = seen.events().iter().filter(|it| made(it)).count();
            (count > 0).then_some(count)
        };
        self.scene.producer.until(PATIENCE, effects).await.unwrap()
    }
}

/// Starts a worker that refuses; returns its last words.
async fn refused(options: &Options) -> String {
    let mut worker = Worker::spawn(options).unwrap();
    let code = worker.until_ended(PATIENCE).await.unwrap();
    let log = worker.log();
    assert_eq!(code, OTHER_STORE, "{log}");
    assert!(log.contains("groupmq store adopt"), "{log}");
    log
}

/// What an operator types.
fn shell(program: &str, arguments: &[&Path]) {
    let done = Command::new(program).args(arguments).status().unwrap();
    assert!(done.success(), "{program} {arguments:?}");
}

async fn doctor(options: &Options) -> Ran {
    run(options, &["doctor"]).await
}

#[tokio::test]
async fn a_worker_stops_when_its_database_file_is_deleted_and_a_new_one_is_refused_until_adopted() {
    let mut place = Place::new().await;
    let well = doctor(&place.scene.options).await;
    assert_eq!(well.code, 0, "{well:?}");
    shell("rm", &[&place.file()]);
    let log = place.last_words().await;
    assert!(log.contains("store.db was deleted or moved away"), "{log}");

    // Started anew it makes a new file, which knows of nothing. The command that comes again waits.
    place.scene.producer.send(command("made")).await.unwrap();
    let log = place.refused().await;
    assert!(
        log.contains("is not the one with which the commands of"),
        "{log}"
    );
    let ill = doctor(&place.scene.options).await;
    assert_eq!(ill.code, 1, "{ill:?}");
    assert!(ill.out.contains("FAIL  identity"), "{ill:?}");
    assert!(ill.out.contains("groupmq store adopt"), "{ill:?}");
    assert_eq!(place.effects("made").await, 1);

    // With the operator's word it is done again: that is what `adopt` says.
    let adopted = run(&place.scene.options, &["store", "adopt"]).await;
    assert_eq!(adopted.code, 0, "{adopted:?}");
    assert!(adopted.out.contains("a second time"), "{adopted:?}");
    place.start_again().await;
    place.scene.assert_works("after").await;
    let well = doctor(&place.scene.options).await;
    assert_eq!(well.code, 0, "{well:?}");
}

fn command(id: &str) -> Sent {
    Sent::new(id, "CreateGroup", "default", &create(id))
}

#[tokio::test]
async fn a_worker_stops_when_another_file_is_moved_over_its_database() {
    let (mut place, mut other) = (Place::new().await, Place::new().await);
    let copy = place.folder.path().join("other.db");
    other.stopped(|file| shell("cp", &[file, &copy])).await;
    shell("mv", &[&copy, &place.file()]);
    let log = place.last_words().await;
    assert!(
        log.contains("store.db was replaced by another one"),
        "{log}"
    );
    place.remove_log();
    place.refused().await;
    assert_eq!(place.effects("made").await, 1);
}

#[tokio::test]
async fn a_worker_stops_when_a_file_beside_its_database_is_deleted() {
    for end in ["-wal", "-shm"] {
        let mut place = Place::new().await;
        let beside = place.folder.path().join(format!("store.db{end}"));
        shell("rm", &[&beside]);
        let log = place.last_words().await;
        let deleted = format!("store.db{end} was deleted or moved away");
        assert!(log.contains(&deleted), "{log}");
        // What the log held may be in the database by now, or be lost: then it is another store, or malformed.
        place.scene.worker = Worker::spawn(&place.scene.options).unwrap();
        let worker = &mut place.scene.worker;
        if worker.until_ready(PATIENCE).await.is_ok() {
            assert_eq!(place.again("made").await["replayed"], true);
        } else {
            assert_eq!(end, "-wal");
            let code = worker.until_ended(PATIENCE).await.unwrap();
            let log = worker.log();
            let malformed = code == 1 && log.contains("malformed");
            assert!(code == OTHER_STORE || malformed, "{code}: {log}");
        }
        assert_eq!(place.effects("made").await, 1);
    }
}

#[tokio::test]
async fn a_worker_that_stops_and_starts_in_the_ordinary_way_finds_its_store_again() {
    let mut place = Place::new().await;
    for _ in 0..3 {
        place.stopped(|_| {}).await;
        place.start_again().await;
    }
    assert_eq!(place.again("made").await["replayed"], true);
    place.scene.worker.kill().unwrap();
    place.start_again().await;
    assert_eq!(place.again("made").await["replayed"], true);
    assert_eq!(place.effects("made").await, 1);
}

#[tokio::test]
async fn an_older_copy_that_is_put_back_answers_what_it_knows() {
    let mut place = Place::new().await;
    let backup = place.folder.path().join("backup.db");
    place.stopped(|file| shell("cp", &[file, &backup])).await;
    place.start_again().await;
    place.create("later").await;
    shell("mv", &[&backup, &place.file()]);
    place.last_words().await;
    place.remove_log();
    place.start_again().await;
    assert_eq!(place.again("made").await["replayed"], true);
    assert_eq!(place.effects("made").await, 1);
    // What came after the backup is not known: the runbook says so.
    assert_eq!(place.again("later").await["replayed"], false);
}

#[tokio::test]
async fn of_two_workers_with_files_of_their_own_the_second_refuses() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    for roles in ["commands,webhooks", "webhooks"] {
        let prefix = format!("{prefix}-{roles}").replace(',', "-");
        let options = options(&broker.url(), &prefix);
        let mut first = Worker::start(&options).await.unwrap();
        let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
        let made = producer.call(command("made")).await.unwrap();
        assert_eq!(made["status"], "ok", "{made}");
        let log = refused(&options.clone().set("roles", roles)).await;
        assert!(
            log.contains("is not the one with which the commands of"),
            "{log}"
        );
        assert_eq!(first.get("/readyz").await.unwrap().0, 200);
        let replayed = |seen: &Seen| {
            let replies = seen.replies("made").into_iter();
            replies.map(|it| it.body).find(|it| it["replayed"] == true)
        };
        producer.send(command("made")).await.unwrap();
        producer.until(PATIENCE, replayed).await.unwrap();
        assert_eq!(first.stop().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn of_workers_that_start_at_once_with_files_of_their_own_one_goes_on() {
    let broker = RabbitMq::shared().await.unwrap();
    let options = options(&broker.url(), &groupmq_test_support::prefix());
    let mut workers: Vec<_> = (0..3).map(|_| Worker::spawn(&options).unwrap()).collect();
    let mut ready = 0;
    for worker in &mut workers {
        if worker.until_ready(PATIENCE).await.is_ok() {
            ready += 1;
        } else {
            assert_eq!(worker.until_ended(PATIENCE).await.unwrap(), OTHER_STORE);
        }
    }
    assert_eq!(ready, 1);
}

#[tokio::test]
async fn of_two_databases_of_postgresql_under_one_prefix_the_second_is_refused() {
    let (broker, server) = (
        RabbitMq::shared().await.unwrap(),
        Postgres::shared().unwrap(),
    );
    let (first, second) = (server.database().unwrap(), server.database().unwrap());
    let options = options(&broker.url(), &groupmq_test_support::prefix());
    let at = |url: &str| options.clone().set("store.url", url);
    let mut worker = Worker::start(&at(&first.url)).await.unwrap();
    refused(&at(&second.url)).await;

    // Emptied under a worker: as good as another one.
    let emptied = Command::new("psql")
        .args(["--quiet", "--dbname", &first.url, "--command"])
        .arg("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        .output()
        .unwrap();
    assert!(emptied.status.success(), "{emptied:?}");
    let code = worker.until_ended(PATIENCE).await.unwrap();
    let log = worker.log();
    assert_eq!(code, OTHER_STORE, "{log}");
    assert!(log.contains("the store was emptied while"), "{log}");
    refused(&at(&first.url)).await;
}

#[tokio::test]
async fn adopting_is_refused_while_workers_run_and_ends_them_when_forced() {
    let mut place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let new = place.scene.options.clone();
    let new = new.set("store.url", store_in(folder.path()));
    let own = run(&place.scene.options, &["store", "adopt"]).await;
    assert_eq!(own.code, 0, "{own:?}");
    assert!(own.out.contains("nothing was changed"), "{own:?}");
    let refused = run(&new, &["store", "adopt"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("1 workers are running"), "{refused:?}");
    place.scene.assert_works("still").await;

    let forced = run(&new, &["store", "adopt", "--force"]).await;
    assert_eq!(forced.code, 0, "{forced:?}");
    place.last_words().await;
    let _worker = Worker::start(&new).await.unwrap();
    place.scene.assert_works("with-the-other").await;
    place.refused().await;
}

#[tokio::test]
async fn the_id_stays_through_a_purge_and_comes_back_when_its_queue_is_deleted() {
    let place = Place::new().await;
    let broker = RabbitMq::shared().await.unwrap();
    let queue = format!("{}.installation", place.scene.prefix);
    broker.ctl(&["purge_queue", &queue]).await.unwrap();
    let other = options(&broker.url(), &place.scene.prefix);
    refused(&other).await;
    broker.ctl(&["delete_queue", &queue]).await.unwrap();
    let queues = Queues::connect(&broker.url()).await;
    let back = async {
        while !queues.has(&queue).await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(2 * PATIENCE, back).await.unwrap();
    refused(&other).await;
    place.scene.assert_works("still").await;
}

#[tokio::test]
async fn commands_that_touch_the_broker_refuse_another_store_too() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("groupmq.toml");
    let endpoint = "[[webhooks]]\nid = \"audit\"\nurl = \"https://example.com/hooks\"\n";
    std::fs::write(&file, endpoint).unwrap();
    let other = place.scene.options.clone().file(&file);
    let other = other.set("store.url", store_in(folder.path()));
    let payload = r#"{"url":"https://example.com/hooks","events":["*"]}"#;
    for arguments in [
        &["topology", "apply"][..],
        &["topology", "reshard"],
        &["webhooks", "set", "another", "--payload", payload],
    ] {
        let ran = run(&other, arguments).await;
        assert_eq!(ran.code, OTHER_STORE, "{ran:?}");
        assert!(ran.err.contains("groupmq store adopt"), "{ran:?}");
    }
}

#[tokio::test]
async fn queues_that_no_endpoint_owns_are_named_after_an_older_store_is_put_back() {
    let mut place = Place::new().await;
    let backup = place.folder.path().join("backup.db");
    place.stopped(|file| shell("cp", &[file, &backup])).await;
    let options = place.scene.options.clone();
    let payload = r#"{"url":"https://example.com/hooks","events":["*"]}"#;
    let set = ["webhooks", "set", "audit", "--payload", payload];
    let ran = run(&options, &set).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    shell("mv", &[&backup, &place.file()]);
    place.remove_log();
    place.start_again().await;

    let broker = RabbitMq::shared().await.unwrap();
    let listed = broker.ctl(&["-q", "list_queues", "name"]).await.unwrap();
    let gone = format!("{}.webhook.audit", place.scene.prefix);
    let named = format!("queues without an endpoint in the store: {gone}.");
    let list = run(&options, &["webhooks", "list", "--queues", &listed]).await;
    assert_eq!(list.code, 0, "{list:?}");
    assert!(list.out.contains(&named), "{list:?}");
    let ill = run(&options, &["doctor", "--queues", &listed]).await;
    assert_eq!(ill.code, 1, "{ill:?}");
    assert!(ill.out.contains(&named), "{ill:?}");

    // Set again, the endpoint owns what its queue collected; without its queue it is named itself.
    let ran = run(&options, &set).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let well = run(&options, &["doctor", "--queues", &listed]).await;
    assert_eq!(well.code, 0, "{well:?}");
    place.stopped(|_| {}).await;
    broker.ctl(&["delete_queue", &gone]).await.unwrap();
    let list = run(&options, &["webhooks", "list"]).await;
    let missing = "without queue or bindings on the broker: audit.";
    assert!(list.out.contains(missing), "{list:?}");
}

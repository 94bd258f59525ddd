//! PostgreSQL as it is run: with a role of few rights, behind a pooler, and with what its administrators do
//! while commands flow. No command is lost or done twice, `/readyz` gives the reason, and the worker goes on
//! by itself.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use groupmq_test_support::pgbouncer::Pgbouncer;
use groupmq_test_support::postgres::{Database, Postgres, psql};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::cli::run;
use super::outages::{COMMANDS, Trouble, assert_once_each, costs_nothing};
use super::scene::{PATIENCE, Scene, effects, options, subjects};

const ROLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postgres/roles.sql");

/// Ends the worker's connections, of which new ones feel what was changed.
const CUT: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                   WHERE usename = 'groupmq_worker'";

/// A server on which the runbook's roles have been made.
struct Place {
    server: Postgres,
    database: Database,
    /// The file of `store.url_file`.
    file: PathBuf,
    taken: Vec<TcpStream>,
    _folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let server = Postgres::start().unwrap();
        let database = server.database().unwrap();
        psql(&database.url, &["-f", ROLES]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let place = Self {
            file: folder.path().join("url"),
            server,
            database,
            taken: Vec::new(),
            _folder: folder,
        };
        place.log_in_with("first");
        place
    }

    /// Which login the file has from now on.
    fn log_in_with(&self, password: &str) {
        let url = self.database.as_role(&format!("groupmq_worker:{password}"));
        std::fs::write(&self.file, url).unwrap();
    }

    fn run(&self, statements: &[&str]) {
        self.database.run(statements).unwrap();
    }

    fn of_worker(&self, options: Options) -> Options {
        options.set("store.url_file", self.file.to_str().unwrap())
    }

    fn of_owner(&self, options: Options) -> Options {
        options.set("store.url", self.database.as_role("groupmq_owner"))
    }

    /// Makes the tables, as the owner, and starts a worker as the other role.
    async fn scene(&self) -> Scene {
        let migrate = self.of_owner(options("amqp://nowhere", "groupmq"));
        let migrated = run(&migrate, &["store", "migrate"]).await;
        assert_eq!(migrated.code, 0, "{migrated:?}");
        Scene::shared_with(|options| self.of_worker(options)).await
    }
}

#[tokio::test]
async fn a_worker_whose_role_may_make_no_table_ends_with_what_it_lacks_and_works_after_store_migrate()
 {
    let place = Place::new();
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let worker = place.of_worker(options(&broker.url(), &prefix));
    let owner = place.of_owner(options("amqp://nowhere", &prefix));

    let mut started = Worker::spawn(&worker).unwrap();
    assert_eq!(started.until_ended(PATIENCE).await.unwrap(), 1);
    let log = started.log();
    assert!(
        log.contains("0001_ledger") && log.contains("groupmq store migrate"),
        "{log}"
    );
    let sick = run(&worker, &["doctor"]).await;
    assert!(sick.out.contains("groupmq store migrate"), "{sick:?}");

    let checked = run(&owner, &["store", "migrate", "--check"]).await;
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(
        checked.out.starts_with("missing  0001_ledger\n"),
        "{checked:?}"
    );
    let made = run(&owner, &["store", "migrate"]).await;
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.out.starts_with("made  0001_ledger\n"), "{made:?}");
    for arguments in [&["store", "migrate"][..], &["store", "migrate", "--check"]] {
        for options in [&owner, &worker] {
            let again = run(options, arguments).await;
            assert_eq!(
                (again.code, again.out.as_str()),
                (0, "nothing is missing\n")
            );
        }
    }

    let endpoint = json!({"id": "audit", "url": "https://example.com/hooks"});
    let file = place.file.with_extension("toml");
    let text = format!(
        "[[webhooks]]\nid = {}\nurl = {}\n",
        endpoint["id"], endpoint["url"]
    );
    std::fs::write(&file, text).unwrap();
    let declared = worker.clone().file(&file);
    let applied = run(&declared, &["topology", "apply"]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let scene = Scene::at(&broker.url(), |_| declared.clone()).await;
    let well = run(&scene.options, &["doctor"]).await;
    assert_eq!(well.code, 0, "{well:?}");
    for arguments in [
        &["webhooks", "list"][..],
        &["webhooks", "deliveries"],
        &["dead", "list"],
    ] {
        let ran = run(&scene.options, arguments).await;
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    place.run(&["REVOKE DELETE ON lanes FROM groupmq_worker"]);
    let (status, said) = scene.worker.get("/readyz").await.unwrap();
    assert!(status == 503 && said.contains("DELETE on lanes"), "{said}");
    let sick = run(&scene.options, &["doctor"]).await;
    assert!(
        sick.code == 1 && sick.out.contains("DELETE on lanes"),
        "{sick:?}"
    );
    place.run(&["GRANT DELETE ON lanes TO groupmq_worker"]);
    let (status, said) = scene.worker.get("/readyz").await.unwrap();
    assert_eq!(status, 200, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_whose_rights_are_taken_and_given_back_costs_no_command() {
    let mut place = Place::new();
    let scene = place.scene().await;
    let groups = scene.groups(super::outages::GROUPS).await;
    let trouble = Trouble {
        store: &mut place,
        begin: |place, _| {
            place.run(&["REVOKE ALL ON ALL TABLES IN SCHEMA public FROM groupmq_worker"]);
        },
        end: |place, _| {
            let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public \
                         TO groupmq_worker";
            place.run(&[grant]);
        },
        cause: "DELETE, INSERT, SELECT, UPDATE on ledger",
    };
    costs_nothing(&scene, &groups, "revoked", trouble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_connections_are_used_up_and_free_again_costs_no_command() {
    let mut place = Place::new();
    place.run(&["CREATE ROLE other LOGIN"]);
    let scene = place.scene().await;
    let groups = scene.groups(super::outages::GROUPS).await;
    let trouble = Trouble {
        store: &mut place,
        begin: |place, _| {
            let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'groupmq_worker'";
            // Somebody else is quicker with what the worker had; an administrator has those in reserve.
            while place.database.run(&[count]).unwrap() != "0" {
                place.taken.extend(place.server.exhaust("other").unwrap());
                place.run(&[CUT]);
                place.taken.extend(place.server.exhaust("other").unwrap());
            }
        },
        end: |place, _| place.taken.clear(),
        cause: "no connection left",
    };
    costs_nothing(&scene, &groups, "exhausted", trouble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_connect_any_more_and_then_may_again_costs_no_command() {
    let mut place = Place::new();
    let scene = place.scene().await;
    let groups = scene.groups(super::outages::GROUPS).await;
    let trouble = Trouble {
        store: &mut place,
        begin: |place, _| place.run(&["ALTER ROLE groupmq_worker CONNECTION LIMIT 0", CUT]),
        end: |place, _| place.run(&["ALTER ROLE groupmq_worker CONNECTION LIMIT -1"]),
        cause: "no connection left",
    };
    costs_nothing(&scene, &groups, "limited", trouble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_changed_and_put_into_the_file_costs_no_command() {
    let mut place = Place::new();
    place.run(&["ALTER ROLE groupmq_worker PASSWORD 'first'"]);
    place.server.ask_for_password("groupmq_worker").unwrap();
    let scene = place.scene().await;
    let groups = scene.groups(super::outages::GROUPS).await;
    let trouble = Trouble {
        store: &mut place,
        begin: |place, _| place.run(&["ALTER ROLE groupmq_worker PASSWORD 'second'", CUT]),
        end: |place, _| place.log_in_with("second"),
        cause: "refuses the login",
    };
    costs_nothing(&scene, &groups, "password", trouble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_transaction_mode_that_is_stopped_and_started_costs_no_command() {
    let place = Place::new();
    let settings = ["pool_mode=transaction", "default_pool_size=3"];
    let pooler = Pgbouncer::start(&place.database, &settings).unwrap();
    std::fs::write(
        &place.file,
        pooler.url(&place.database.as_role("groupmq_worker")),
    )
    .unwrap();
    let scene = place.scene().await;
    let groups = scene.groups(super::outages::GROUPS).await;
    let mut both = (pooler, place);
    let trouble = Trouble {
        store: &mut both,
        begin: |(pooler, _), _| pooler.stop().unwrap(),
        end: |(pooler, _), _| pooler.start_again().unwrap(),
        cause: "Connection refused",
    };
    costs_nothing(&scene, &groups, "pooled", trouble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_paused_within_its_transactions_loses_no_command() {
    let place = Place::new();
    let migrate = place.of_owner(options("amqp://nowhere", "groupmq"));
    assert_eq!(run(&migrate, &["store", "migrate"]).await.code, 0);
    let scene = Scene::shared_with(|options| {
        // The server ends transactions in which nothing comes for so long.
        place.of_worker(options).set("store.timeout", "300ms")
    })
    .await;
    let groups = scene.groups(super::outages::GROUPS).await;
    let before = scene.producer.seen().answered();
    let commands = subjects(&groups, "paused", COMMANDS);
    let pauses = async {
        for n in 1..=8 {
            let some = before + n * COMMANDS / 20;
            scene.producer.answered(some, PATIENCE).await.unwrap();
            scene.worker.signal(Signal::SIGSTOP).unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
            scene.worker.signal(Signal::SIGCONT).unwrap();
        }
    };
    let (sent, ()) = tokio::join!(scene.producer.send_all(commands), pauses);
    sent.unwrap();
    let all = before + COMMANDS;
    let came = |seen: &groupmq_test_support::producer::Seen| {
        let all_came = seen.answered() == all && effects(seen, "paused-") == COMMANDS;
        all_came.then_some(())
    };
    scene.producer.until(2 * PATIENCE, came).await.unwrap();
    assert_once_each(scene.producer.seen());
    let log = scene.worker.log();
    println!("ended by the server: {}", log.matches("25P03").count());
    assert!(!log.contains("a fault in groupmq"), "{log}");
    assert_eq!(scene.worker.get("/readyz").await.unwrap().0, 200);
}

//! The log as an operator's collector reads it: with the default filter, one line for each command.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, create, options};
use groupmq_test_support::producer::{Command, Producer};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Worker;

#[tokio::test]
async fn each_command_has_one_line_with_its_outcome_and_nothing_of_its_content() {
    let mut scene = Scene::shared_with(|options| options.set("log.format", "json")).await;
    let made = scene.call("make", "CreateGroup", &create("Climbing")).await;
    let group = &made["result"]["id"];
    let subject = json!({"groupId": group, "subject": "Bouldering"});
    scene.call("rename", "SetGroupSubject", &subject).await;
    // The same command, told apart by its correlation id.
    let again = Command::new("rename", "SetGroupSubject", "default", &subject);
    let again = Command {
        correlation_id: "again".to_owned(),
        ..again
    };
    scene.producer.call(again).await.unwrap();
    let wrong = json!({"groupId": "491700000002@c.us", "subject": "Nobody's"});
    let wrong = Command::new("wrong", "SetGroupSubject", "second", &wrong);
    scene.producer.call(wrong).await.unwrap();
    // A reply comes before its line.
    assert_eq!(scene.worker.stop().await.unwrap(), 0);

    let log = scene.worker.log();
    for secret in ["4917", "Climbing", "Bouldering", "Nobody"] {
        assert!(!log.contains(secret), "{secret} is told:\n{log}");
    }
    let mut lines = BTreeMap::<_, Vec<Value>>::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string(), "{line}");
        if line["target"] == "groupmq::commands" {
            assert_eq!(line["level"], "INFO");
            assert!(line["duration_ms"].is_u64(), "{line}");
            let told = ["command_type", "session", "outcome", "replayed"].map(|it| &line[it]);
            let id = line["command_id"].as_str().unwrap().to_owned();
            lines.entry(id).or_default().push(json!(told));
        }
    }
    let renamed = |replayed: bool| json!(["SetGroupSubject", "default", "ok", replayed]);
    let wanted = [
        ("make", vec![json!(["CreateGroup", "default", "ok", false])]),
        ("rename", vec![renamed(false), renamed(true)]),
        (
            "wrong",
            vec![json!([
                "SetGroupSubject",
                "second",
                "INVALID_PAYLOAD",
                false
            ])],
        ),
    ];
    let wanted = wanted.map(|(id, lines)| (id.to_owned(), lines));
    assert_eq!(lines, BTreeMap::from(wanted));
}

#[tokio::test]
async fn the_filter_silences_the_lines_of_commands_and_no_others() {
    let filter = "info,groupmq::commands=off,groupmq::requests=off";
    let mut scene = Scene::shared_with(|options| options.set("log.filter", filter)).await;
    scene.assert_works("quiet").await;
    assert_eq!(scene.worker.stop().await.unwrap(), 0);
    let log = scene.worker.log();
    assert!(log.contains("connected to the broker"), "{log}");
    assert!(!log.contains("command answered"), "{log}");
}

/// A worker whose log goes into a pipe, in a format, and its producer.
async fn piped(format: &str) -> (std::io::PipeReader, Worker, Producer) {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = options(&broker.url(), &prefix).set("log.format", format);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut worker = Worker::spawn_logging_to(&options, writer).unwrap();
    worker.until_ready(PATIENCE).await.unwrap();
    let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
    (reader, worker, producer)
}

/// Changes of one group, so that one command without an end would hold up those behind it.
async fn change_one_group(producer: &Producer, count: usize) {
    let new = Command::new("new", "CreateGroup", "default", &create("One"));
    let made = producer.call(new).await.unwrap();
    let group = made["result"]["id"].as_str().unwrap().to_owned();
    let commands = super::scene::subjects(&[group], "change", count);
    producer.send_all(commands).await.unwrap();
    producer.answered(count + 1, PATIENCE).await.unwrap();
}

async fn lost_lines(worker: &Worker) -> u64 {
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("groupmq_log_lines_lost_total "));
    line.map_or(0, |count| count.parse().unwrap())
}

async fn without_a_reader(format: &str) {
    let (reader, mut worker, producer) = piped(format).await;
    drop(reader);
    // More than the window of the consumer: each has to be acknowledged.
    change_one_group(&producer, 400).await;
    until_lost(&worker, 400).await;
    assert_eq!(worker.get("/livez").await.unwrap().0, 200);
    assert_eq!(worker.get("/readyz").await.unwrap().0, 200);
    assert_eq!(worker.stop().await.unwrap(), 0);
}

async fn unread(format: &str) {
    let (reader, mut worker, producer) = piped(format).await;
    // A line each: so many that neither the pipe nor the buffer before it can hold them.
    let read = |n| Command::new(&format!("read-{n}"), "ListGroups", "default", &json!({}));
    producer
        .send_all((0..4_000).map(read).collect())
        .await
        .unwrap();
    producer.answered(4_000, PATIENCE).await.unwrap();
    until_lost(&worker, 1).await;
    assert_eq!(worker.get("/livez").await.unwrap().0, 200);
    assert_eq!(worker.get("/readyz").await.unwrap().0, 200);
    assert_eq!(worker.stop().await.unwrap(), 0);
    drop(reader);
}

/// Waits until so many lost lines are counted.
async fn until_lost(worker: &Worker, count: u64) {
    let begun = std::time::Instant::now();
    while lost_lines(worker).await < count {
        assert!(begun.elapsed() < PATIENCE, "the lost lines are not counted");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_log_whose_reader_goes_away_costs_no_command() {
    without_a_reader("text").await;
}

#[tokio::test]
async fn a_log_in_json_whose_reader_goes_away_costs_no_command() {
    without_a_reader("json").await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_costs_no_command() {
    unread("text").await;
}

#[tokio::test]
async fn a_log_in_json_that_nobody_reads_costs_no_command() {
    unread("json").await;
}

/// So it does not matter who reads it, or does not.
#[tokio::test]
async fn a_worker_writes_nothing_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let stdout = folder.path().join("stdout");
    let redirect = format!(r#"exec "$0" "$@" >'{}'"#, stdout.display());
    let front = ["sh", "-c", &redirect].map(str::to_owned);
    let mut scene = Scene::shared_with(|options| options.behind(front)).await;
    scene.assert_works("one").await;
    assert_eq!(scene.worker.stop().await.unwrap(), 0);
    assert_eq!(std::fs::read_to_string(stdout).unwrap(), "");
}

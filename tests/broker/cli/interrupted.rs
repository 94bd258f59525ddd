//! `apply` that ends before its groups are as wanted, or may not see how far they are.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Stdio};

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Options;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::apply::{Files, created, joins};
use crate::scene::{PATIENCE, Scene};

/// An `apply` that is under way.
struct Begun {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Begun {
    /// Starts `apply` for a group to which six people are to be added, and waits until it has sent that and said so.
    async fn new(options: &Options, files: &Files) -> Self {
        let file = files.path("groups.yaml").display().to_string();
        let mut command = options.command(&["apply", &file, "--yes"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        let begin = move || {
            let mut child = command.spawn().unwrap();
            let mut said = BufReader::new(child.stderr.take().unwrap());
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            let wanted = "0 of 1 group, 0 of 6 people; about ";
            assert!(line.starts_with(wanted), "{line}");
            Self { child, said }
        };
        tokio::task::spawn_blocking(begin).await.unwrap()
    }

    /// Presses Ctrl-C; returns the exit code, and what it says.
    async fn interrupt(mut self) -> (Option<i32>, String) {
        let id = Pid::from_raw(self.child.id().cast_signed());
        kill(id, Signal::SIGINT).unwrap();
        let end = move || {
            let mut rest = String::new();
            self.said.read_to_string(&mut rest).unwrap();
            (self.child.wait().unwrap().code(), rest)
        };
        tokio::task::spawn_blocking(end).await.unwrap()
    }
}

/// A worker whose accounts may add one person at a time, and how often.
async fn slow(refill: &'static str) -> Scene {
    let limits = |options: Options| {
        options
            .set("safety.limits", "on")
            .set("safety.add_participants.burst", "1")
            .set("safety.add_participants.refill", refill)
    };
    Scene::shared_with(limits).await
}

/// Six people for a group.
fn six() -> Vec<String> {
    (10..16).map(|n| format!("4917000000{n}")).collect()
}

fn add_six(id: &str) -> Files {
    let people = six().join(", ");
    Files::new(&format!("groupId: {id}\nparticipants: [{people}]\n"))
}

#[tokio::test]
async fn interrupted_and_repeated_it_goes_on() {
    let scene = slow("1s").await;
    let id = &scene.groups(1).await[0];
    let files = add_six(id);
    let begun = Begun::new(&scene.options, &files).await;
    let (code, said) = begun.interrupt().await;
    assert_eq!(code, Some(6), "{said}");
    let wanted = "1 group sent and not finished, 0 not sent.";
    assert!(said.contains(wanted), "{said}");
    assert!(said.contains("run it again"), "{said}");

    let again = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(again.code, 0, "{again:?}");
    let done = files.apply(&scene.options, &["--plan"]).await;
    assert!(done.out.ends_with("is as wanted\n"), "{done:?}");
    let joined = joins(&scene, id, six().len()).await;
    let wanted: Vec<_> = six().iter().map(|it| format!("{it}@c.us")).collect();
    assert_eq!(joined, wanted);
}

#[tokio::test]
async fn what_is_known_is_printed_when_the_connection_is_lost() {
    let scene = slow("1h").await;
    let id = &scene.groups(1).await[0];
    let broker = RabbitMq::shared().await.unwrap();
    let user = &scene.prefix;
    broker.ctl(&["add_user", user, "secret"]).await.unwrap();
    let rights = ["set_permissions", user, ".*", ".*", ".*"];
    broker.ctl(&rights).await.unwrap();
    let options = scene.options.clone();
    let options = options.set("amqp.url", broker.url_as(user, "secret", "/"));
    let people = six().join(", ");
    let files = Files::new(&format!(
        "name: New\n---\ngroupId: {id}\nparticipants: [{people}]\n"
    ));
    let lose = async {
        scene
            .producer
            .until(PATIENCE, |seen| {
                let is_new = |it: &Value| it["payload"]["group"]["subject"] == "New";
                seen.events().iter().any(is_new).then_some(())
            })
            .await
            .unwrap();
        // The reply comes after the events.
        scene.assert_works("meanwhile").await;
        // RabbitMQ fails if one of them ends by itself at that moment.
        let close = ["close_all_user_connections", user, "test"];
        while broker.ctl(&close).await.is_err() {}
    };
    let (applied, ()) = tokio::join!(files.apply(&options, &["--yes"]), lose);
    broker.ctl(&["delete_user", user]).await.unwrap();
    assert_eq!(applied.code, 5, "{applied:?}");
    created(&applied);
    assert!(
        applied.err.contains("1 group sent and not finished"),
        "{applied:?}"
    );
}

#[tokio::test]
async fn a_plan_does_not_wait_for_what_is_under_way() {
    let scene = slow("1h").await;
    let id = &scene.groups(1).await[0];
    let files = add_six(id);
    let begun = Begun::new(&scene.options, &files).await;
    begun.interrupt().await;
    let planned = files
        .apply(&scene.options, &["--plan", "--timeout", "20s"])
        .await;
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(planned.out.contains("  + add "), "{planned:?}");
    assert!(planned.out.contains("  takes about "), "{planned:?}");
}

#[tokio::test]
async fn without_the_right_to_events_it_shows_groups_alone() {
    let scene = Scene::shared().await;
    let id = &scene.groups(1).await[0];
    let broker = RabbitMq::shared().await.unwrap();
    let user = &scene.prefix;
    let commands = format!(
        "^(amq\\.gen-|{}\\.commands$)",
        scene.prefix.replace('.', "\\.")
    );
    let own = "^amq\\.gen-";
    broker.ctl(&["add_user", user, "secret"]).await.unwrap();
    let rights = ["set_permissions", user, own, &commands, own];
    broker.ctl(&rights).await.unwrap();
    let options = scene.options.clone();
    let options = options.set("amqp.url", broker.url_as(user, "secret", "/"));
    let files = add_six(id);
    let applied = files.apply(&options, &["--yes"]).await;
    broker.ctl(&["delete_user", user]).await.unwrap();
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(
        applied
            .err
            .ends_with(": ok (1 of 1 group, 6 of 6 people)\n"),
        "{applied:?}"
    );
}

//! What producers do that are not ours: Python with pika, Node with amqplib, a shell.
//!
//! `every_command.py` checks the whole contract from outside. The programs of README and
//! `docs/clients.md` run as printed. Each test has a virtual host of its own, because these programs use
//! the default names of exchanges and queues.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper may stop the test"
)]

mod documents;
mod world;

use groupmq::contract::CommandType;

use documents::{CLIENTS, OPERATING, README, block};
use world::{Program, World};

#[tokio::test]
async fn pika_sends_every_command_and_gets_every_reply_and_event() {
    let world = World::new("pika").await;
    world
        .ctl(&documents::words("set_permissions guest .* .* .*"))
        .await;
    let worker = world.start_worker("guest", "guest").await;
    let program = Program::python(include_str!("every_command.py"));
    let output = program.run(&world.url("guest", "guest")).await;
    worker.stop().await;
    for command in CommandType::ALL {
        let begins = format!("{} ", command.as_str());
        assert!(
            output.lines().any(|line| line.starts_with(&begins)),
            "{} was not sent:\n{output}",
            command.as_str()
        );
    }
    world.remove().await;
}

#[tokio::test]
async fn everything_in_the_documents_works_as_shown() {
    let world = World::new("documents").await;
    // The worker and the programs have the documented rights, and no others.
    for command in block(OPERATING, "sh", "rabbitmqctl").lines() {
        if let Some(arguments) = command.strip_prefix("rabbitmqctl ") {
            world.ctl(&documents::words(arguments)).await;
        }
    }
    let worker = world.start_worker("worker", "secret-1").await;
    let url = world.url("shop", "secret-2");

    let sessions = [README, CLIENTS].into_iter().flat_map(documents::session);
    for (command, expected) in sessions {
        let shown = Program::shell(&command).run_any(&url).await;
        documents::assert_shown(&command, &expected, &shown);
    }

    let prints = block(README, "text", "CreateGroup ok");
    let python = Program::python(&block(README, "python", "import pika"));
    assert_eq!(python.run(&url).await, prints, "README's Python program");

    let prints = block(CLIENTS, "text", "created Climbing");
    let python = Program::python(&block(CLIENTS, "python", "import pika"));
    assert_eq!(python.run(&url).await, prints, "the Python program");
    let node = Program::node(&block(CLIENTS, "js", "amqplib"));
    assert_eq!(node.run(&url).await, prints, "the Node program");

    for (number, outcome, code) in documents::special_numbers() {
        let payload = format!(r#"{{"name":"Special","participants":["{number}"]}}"#);
        let command = format!("groupmq send CreateGroup --json --payload '{payload}'");
        let reply = Program::shell(&command).run(&url).await;
        let expected = format!(r#""id":"{number}","outcome":"{outcome}","code":{code}"#);
        assert!(reply.contains(&expected), "{expected} is not in {reply}");
    }

    // The user is confined to its session.
    let other = Program::shell("groupmq send ListGroups --session second; echo \"exit code $?\"");
    let refused = other.run_any(&url).await;
    assert!(refused.ends_with("exit code 5\n"), "{refused}");

    worker.stop().await;
    for user in ["worker", "shop"] {
        world
            .ctl(&["delete_user".to_owned(), user.to_owned()])
            .await;
    }
    world.remove().await;
}

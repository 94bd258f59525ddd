//! What producers do that are not ours: Python with pika, Node with amqplib, a shell.
//!
//! `every_command.py` checks the whole contract from outside. README's own programs are taken out of
//! README and run as they stand, so they must be right. Each test has a virtual host of its own,
//! since README's programs use the names that everybody uses.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper may stop the test"
)]

mod readme;
mod world;

use groupmq::contract::CommandType;

use world::{Program, World};

#[tokio::test]
async fn pika_sends_every_command_and_gets_every_reply_and_event() {
    let world = World::new("pika").await;
    world
        .ctl(&readme::words("set_permissions guest .* .* .*"))
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
async fn everything_in_readme_works_as_shown() {
    let world = World::new("readme").await;
    // The worker and the programs have the rights that README gives them, and no others.
    for command in readme::block("sh", "rabbitmqctl").lines() {
        if let Some(arguments) = command.strip_prefix("rabbitmqctl ") {
            world.ctl(&readme::words(arguments)).await;
        }
    }
    let worker = world.start_worker("worker", "secret-1").await;
    let url = world.url("shop", "secret-2");

    for (command, expected) in readme::session() {
        let shown = Program::shell(&command).run_any(&url).await;
        readme::assert_shown(&command, &expected, &shown);
    }

    let prints = readme::block("text", "created Climbing");
    let python = Program::python(&readme::block("python", "import pika"));
    assert_eq!(python.run(&url).await, prints, "README's Python program");
    let node = Program::node(&readme::block("js", "amqplib"));
    assert_eq!(node.run(&url).await, prints, "README's Node program");

    for (number, outcome, code) in readme::special_numbers() {
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

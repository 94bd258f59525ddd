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

use documents::{CLIENTS, DESIRED, OPERATING, README, block};
use groupmq_test_support::postgres::Postgres;
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
    give_documented_rights(&world).await;
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

#[tokio::test]
async fn groups_become_as_the_file_of_the_documents_says() {
    let world = World::new("apply").await;
    world
        .ctl(&documents::words("set_permissions guest .* .* .*"))
        .await;
    let worker = world.start_worker("guest", "guest").await;
    let url = world.url("guest", "guest");
    let files = [
        ("groups.yaml", block(DESIRED, "yaml", "members.csv")),
        ("members.csv", block(DESIRED, "csv", "phone")),
    ];
    for (command, expected) in documents::session(DESIRED) {
        let mut program = Program::shell(&command);
        for (name, content) in &files {
            program = program.beside(name, content);
        }
        let shown = program.run(&url).await;
        documents::assert_shown(&command, &expected, &shown);
    }
    worker.stop().await;
    world.remove().await;
}

#[tokio::test]
async fn the_nightly_job_of_the_documents_makes_groups_as_the_tables_say() {
    let world = World::new("nightly").await;
    world
        .ctl(&documents::words("set_permissions guest .* .* .*"))
        .await;
    let worker = world.start_worker("guest", "guest").await;
    let url = world.url("guest", "guest");
    let database = Postgres::shared().unwrap().database().unwrap();
    let job =
        Program::python(&block(DESIRED, "python", "psycopg")).with("DATABASE_URL", &database.url);

    let prints: Vec<_> = DESIRED.split("\n```text\n").skip(1).collect();
    let changes = ["CREATE TABLE", "DELETE FROM"].map(|it| block(DESIRED, "sql", it));
    assert_eq!(prints.len(), changes.len());
    for (change, prints) in changes.iter().zip(prints) {
        database.run(&[change]).unwrap();
        let (prints, _) = prints.split_once("\n```").unwrap();
        assert_eq!(job.run(&url).await, format!("{prints}\n"));
    }

    let listed = "groupmq send ListGroups --json";
    let reply = Program::shell(listed).run(&url).await;
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    let groups = reply["result"].as_array().unwrap();
    let people = |name: &str| {
        let group = groups.iter().find(|it| it["subject"] == name).unwrap();
        let people = group["participants"].as_array().unwrap().iter();
        let mut people: Vec<_> = people
            .map(|it| {
                format!(
                    "{} {}",
                    it["id"].as_str().unwrap(),
                    it["role"].as_str().unwrap()
                )
            })
            .collect();
        people.sort();
        people.join(", ")
    };
    assert_eq!(groups.len(), 3, "{reply}");
    let owner = "15550000001@c.us superadmin";
    assert_eq!(people("Nobody yet"), owner);
    assert_eq!(
        people("Climbing"),
        format!("{owner}, 15550000002@c.us admin, 15550000100@c.us admin")
    );
    assert_eq!(
        people("Hiking"),
        format!("{owner}, 15550000002@c.us participant")
    );
    worker.stop().await;
    world.remove().await;
}

/// The worker and the programs have the documented rights, and no others.
async fn give_documented_rights(world: &World) {
    for command in block(OPERATING, "sh", "rabbitmqctl").lines() {
        if let Some(arguments) = command.strip_prefix("rabbitmqctl ") {
            world.ctl(&documents::words(arguments)).await;
        }
    }
}

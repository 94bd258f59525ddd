//! A worker that dies between the effect and its record, on an engine whose effects lie apart from
//! the ledger: what is promised for the command that it leaves behind.

use futures_util::future::join_all;
use groupmq_test_support::producer::Command;
use groupmq_test_support::worker::{Worker, store_in};
use serde_json::{Value, json};

use super::scene::{Scene, create};

/// Where the worker dies, the command it dies of, and what the next worker answers.
struct Case {
    crash: &'static str,
    command_type: &'static str,
    groups: usize,
}

const TABLE: &[Case] = &[
    Case {
        crash: "before-effect",
        command_type: "CreateGroup",
        groups: 1,
    },
    // Not repeated: the engine is asked, and finds the group.
    Case {
        crash: "after-effect",
        command_type: "CreateGroup",
        groups: 1,
    },
    // Repeated, since that is harmless.
    Case {
        crash: "before-effect",
        command_type: "LeaveGroup",
        groups: 0,
    },
];

async fn died_and_came_back(case: &Case) {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let mut scene = Scene::shared_with(|options| {
        options
            .set("store.url", store)
            .set("engine.sandbox.ledger", "apart")
    })
    .await;
    let payload = match case.command_type {
        "CreateGroup" => create("new"),
        _ => json!({ "groupId": scene.groups(1).await.remove(0) }),
    };
    scene.worker.stop().await.unwrap();

    let crash = scene
        .options
        .clone()
        .set("engine.sandbox.faults.default.crash", case.crash);
    let mut doomed = Worker::start(&crash).await.unwrap();
    let command = Command::new("left-behind", case.command_type, "default", &payload);
    scene.producer.send(command).await.unwrap();
    while doomed.ended().unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    scene.worker = Worker::start(&scene.options).await.unwrap();
    let reply = scene.producer.reply("left-behind").await.unwrap();
    assert_eq!(
        reply["status"], "ok",
        "{} {}: {reply}",
        case.command_type, case.crash
    );
    let list: Value = scene.call("list", "ListGroups", &json!({})).await;
    let groups = list["result"].as_array().unwrap().len();
    assert_eq!(
        groups, case.groups,
        "{} {}: {list}",
        case.command_type, case.crash
    );
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    println!("{} {}: as promised", case.command_type, case.crash);
}

#[tokio::test]
async fn a_command_whose_worker_died_over_it_ends_as_promised() {
    join_all(TABLE.iter().map(died_and_came_back)).await;
}

//! One request, one effect: by `Idempotency-Key`; and what became of a request that was not waited
//! for.

use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Answer, PATIENCE, Scene, answer, with_json};

fn create(name: &str) -> Value {
    json!({ "name": name, "participants": [] })
}

async fn keyed(scene: &Scene, key: &str, body: &Value, prefer: &str) -> Answer {
    let request = scene.request("POST", "/api/default/groups");
    let request = request
        .header("idempotency-key", key)
        .header("prefer", prefer);
    answer(with_json(request, body)).await
}

/// Asks for a command until it is done.
async fn done(scene: &Scene, location: &str) -> Value {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let told = scene.send("GET", location, &Value::Null).await;
        assert_eq!(told.status, 200, "{told:?}");
        let status = told.json();
        if status["state"] == "done" {
            return status;
        }
        assert_eq!(status["state"], "pending", "{status}");
        assert_eq!(told.header("retry-after"), "1");
        assert!(tokio::time::Instant::now() < until, "{status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_another_body_a_conflict() {
    let scene = Scene::new().await;
    let first = keyed(&scene, "once", &create("One"), "").await;
    assert_eq!(
        (first.status.as_u16(), first.header("x-command-id")),
        (201, "once"),
        "{first:?}"
    );
    assert_eq!(first.header("idempotency-replayed"), "");
    // Written differently, and quoted as the draft of the header has it.
    let same = json!({ "participants": [], "name": "One" });
    let again = keyed(&scene, "\"once\"", &same, "").await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.body, first.body);
    let other = keyed(&scene, "once", &create("Other"), "").await;
    other.assert_problem(409, "ID_REUSED");
    assert_eq!(other.json()["commandId"], "once");

    let all = scene.send("GET", "/api/default/groups", &Value::Null).await;
    assert_eq!(all.json().as_array().unwrap().len(), 1, "{all:?}");
    // The conflict does not cover what became of the first.
    let status = done(&scene, "/api/commands/once?session=default").await;
    assert_eq!(status["result"]["subject"], "One", "{status}");
    keyed(&scene, "a b", &create("One"), "")
        .await
        .assert_problem(400, "BAD_REQUEST");
}

#[tokio::test]
async fn respond_async_answers_at_once_and_location_tells_what_became_of_it() {
    let slow = |options: groupmq_test_support::worker::Options| {
        options.set("engine.sandbox.faults.default.delay", "2s")
    };
    let scene = Scene::with(slow).await;
    // Slashes and the like are legal in a key.
    let asked = keyed(&scene, "a/b?c#d%20", &create("Later"), "respond-async").await;
    assert_eq!(asked.status, 202, "{asked:?}");
    assert_eq!(asked.header("preference-applied"), "respond-async");
    assert_eq!(asked.json()["state"], "pending");
    let location = asked.header("location").to_owned();
    let told = scene.send("GET", &location, &Value::Null).await;
    assert_eq!(told.json()["state"], "pending", "{told:?}");
    let status = done(&scene, &location).await;
    assert_eq!(
        (&status["commandId"], &status["status"]),
        (&json!("a/b?c#d%20"), &json!("ok"))
    );
    assert_eq!(status["result"]["subject"], "Later");

    // With a time to wait, an answer within it is the answer.
    let asked = keyed(&scene, "soon", &create("Soon"), "respond-async, wait=20").await;
    assert_eq!(asked.status, 201, "{asked:?}");
    let asked = keyed(&scene, "late", &create("Late"), "respond-async, wait=1").await;
    assert_eq!(asked.status, 202, "{asked:?}");
}

#[tokio::test]
async fn a_timeout_names_the_command_and_asking_again_has_no_second_effect() {
    let slow = |options: groupmq_test_support::worker::Options| {
        options.set("engine.sandbox.faults.default.delay", "3s")
    };
    let scene = Scene::with(slow).await;
    let late = keyed(&scene, "late", &create("Late"), "wait=1").await;
    late.assert_problem(504, "NO_REPLY");
    assert_eq!(late.json()["commandId"], "late");
    assert_eq!(late.json()["retryable"], true);
    let status = done(&scene, late.header("location")).await;
    let id = &status["result"]["id"];
    let again = keyed(&scene, "late", &create("Late"), "").await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["id"]),
        (201, id),
        "{again:?}"
    );
    let reading = scene.request("GET", "/api/default/groups");
    let reading = answer(reading.header("prefer", "wait=1")).await;
    reading.assert_problem(504, "NO_REPLY");
    assert_eq!(reading.header("location"), "", "{reading:?}");
}

#[tokio::test]
async fn a_request_that_only_reads_is_waited_for_and_its_answer_is_not_kept() {
    let scene = Scene::new().await;
    let reading = scene
        .request("GET", "/api/default/groups")
        .header("idempotency-key", "read")
        .header("prefer", "respond-async");
    let reading = answer(reading).await;
    assert_eq!(reading.status, 200, "{reading:?}");
    assert_eq!(reading.json(), json!([]));
    let path = "/api/commands/read?session=default";
    let status = scene.send("GET", path, &Value::Null).await;
    status.assert_problem(404, "COMMAND_UNKNOWN");
    let detail = status.json()["detail"].to_string();
    assert!(detail.contains("only read are not kept"), "{detail}");
}

#[tokio::test]
async fn the_ledger_has_the_state_of_commands_with_a_reply() {
    let scene = Scene::new().await;
    for name in ["a", "b"] {
        assert_eq!(keyed(&scene, name, &create(name), "").await.status, 201);
    }
    for name in ["a", "b"] {
        let location = format!("/api/commands/{name}?session=default");
        let status = scene.send("GET", &location, &Value::Null).await.json();
        // Never pending after the reply.
        assert_eq!(status["state"], "done", "{status}");
        assert_eq!(status["result"]["subject"], name, "{status}");
    }
    let never = scene
        .send("GET", "/api/commands/c?session=default", &Value::Null)
        .await;
    never.assert_problem(404, "COMMAND_UNKNOWN");
    let whose = scene.send("GET", "/api/commands/a", &Value::Null).await;
    whose.assert_problem(400, "BAD_REQUEST");
}

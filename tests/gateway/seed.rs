//! Every request of WAHA's "Groups" document, as it stands there, and its answer.

use serde_json::{Value, json};

use super::scene::{Scene, answer, with_json};

/// The person in the document's examples.
const PERSON: &str = "123123123123@c.us";
const PERSONS_LID: &str = "8000123123123123@lid";

fn people() -> Value {
    json!({ "participants": [{ "id": "123123123123@c.us" }] })
}

#[tokio::test]
async fn create_get_all_get_delete_and_leave() {
    let scene = Scene::new().await;
    let body = json!({ "name": "Group name", "participants": [{ "id": PERSON }] });
    let made = scene.send("POST", "/api/default/groups", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let group = made.json();
    assert_eq!(group["subject"], "Group name");
    assert_eq!(
        group["participants"][1],
        json!({ "id": PERSON, "role": "participant", "lid": PERSONS_LID, "pn": PERSON })
    );
    let id = group["id"].as_str().unwrap();
    assert_eq!(made.header("location"), format!("/api/default/groups/{id}"));

    let all = scene.send("GET", "/api/default/groups", &Value::Null).await;
    assert_eq!(
        (all.status.as_u16(), &all.json()[0]["id"]),
        (200, &group["id"]),
        "{all:?}"
    );
    let path =
        "/api/default/groups?limit=1&offset=0&sortBy=subject&sortOrder=desc&exclude=participants";
    let lean = scene.send("GET", path, &Value::Null).await.json();
    assert!(lean[0].get("participants").is_none(), "{lean}");

    // With @ and with %40.
    for id in [id.to_owned(), id.replace('@', "%40")] {
        let one = scene
            .send("GET", &format!("/api/default/groups/{id}"), &Value::Null)
            .await;
        assert_eq!(
            (one.status.as_u16(), &one.json()["id"]),
            (200, &group["id"]),
            "{one:?}"
        );
    }

    let left = scene
        .send(
            "POST",
            &format!("/api/default/groups/{id}/leave"),
            &Value::Null,
        )
        .await;
    assert_eq!(
        (left.status.as_u16(), left.body.as_str()),
        (200, "true"),
        "{left:?}"
    );
    let gone = scene
        .send("DELETE", &format!("/api/default/groups/{id}"), &Value::Null)
        .await;
    assert_eq!(
        (gone.status.as_u16(), gone.body.as_str()),
        (200, "true"),
        "{gone:?}"
    );
    let none = scene.send("GET", "/api/default/groups", &Value::Null).await;
    assert_eq!(none.body, "[]");
}

#[tokio::test]
async fn subject_and_description_answer_true_and_false_without_permission() {
    let scene = Scene::new().await;
    let id = scene.group(&["15550000002@c.us"]).await;
    let changes = [
        ("subject", json!({ "subject": "Group name" })),
        ("description", json!({ "description": "Group description" })),
    ];
    for (what, body) in &changes {
        let path = format!("/api/default/groups/{id}/{what}");
        let done = scene.send("PUT", &path, body).await;
        assert_eq!(
            (done.status.as_u16(), done.body.as_str()),
            (200, "true"),
            "{done:?}"
        );
    }
    let group = scene
        .send("GET", &format!("/api/default/groups/{id}"), &Value::Null)
        .await
        .json();
    assert_eq!(group["description"], "Group description");

    let path = format!("/api/default/groups/{id}/settings/security/info-admin-only");
    assert_eq!(scene.send("PUT", &path, &Value::Null).await.body, "true");
    for (what, body) in &changes {
        let path = format!("/api/second/groups/{id}/{what}");
        let refused = scene.send("PUT", &path, body).await;
        assert_eq!(
            (refused.status.as_u16(), refused.body.as_str()),
            (200, "false"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn info_admin_only_without_a_body_means_true() {
    let scene = Scene::new().await;
    let id = scene.group(&[]).await;
    let path = format!("/api/default/groups/{id}/settings/security/info-admin-only");
    let at_first = scene.send("GET", &path, &Value::Null).await;
    assert_eq!(at_first.body, r#"{"adminsOnly":false}"#, "{at_first:?}");
    let set = scene.send("PUT", &path, &Value::Null).await;
    assert_eq!(
        (set.status.as_u16(), set.body.as_str()),
        (200, "true"),
        "{set:?}"
    );
    let after = scene.send("GET", &path, &Value::Null).await;
    assert_eq!(after.body, r#"{"adminsOnly":true}"#, "{after:?}");
    // What the document's readers are asked to wish for.
    let back = json!({ "adminsOnly": false });
    assert_eq!(scene.send("PUT", &path, &back).await.body, "true");
    let after = scene.send("GET", &path, &Value::Null).await;
    assert_eq!(after.body, r#"{"adminsOnly":false}"#, "{after:?}");
}

#[tokio::test]
async fn participants_and_admins() {
    let scene = Scene::new().await;
    let id = scene.group(&[]).await;
    let path = |what: &str| format!("/api/default/groups/{id}/{what}");
    let role = async || {
        let all = scene.send("GET", &path("participants"), &Value::Null).await;
        assert_eq!(all.status, 200, "{all:?}");
        let all = all.json();
        let person = all.as_array().unwrap().iter().find(|it| it["id"] == PERSON);
        person.map(|it| it["role"].as_str().unwrap().to_owned())
    };
    assert_eq!(role().await, None);
    let steps = [
        ("participants/add", Some("participant")),
        ("admin/promote", Some("admin")),
        ("admin/demote", Some("participant")),
        ("participants/remove", None),
    ];
    for (what, then) in steps {
        let done = scene.send("POST", &path(what), &people()).await;
        assert_eq!(done.status, 200, "{what}: {done:?}");
        let outcome = json!([{ "id": PERSON, "outcome": "ok", "code": 200 }]);
        assert_eq!(done.json(), outcome, "{what}");
        assert_eq!(role().await.as_deref(), then, "after {what}");
    }
}

#[tokio::test]
async fn the_invite_code_is_a_string() {
    let scene = Scene::new().await;
    let id = scene.group(&[]).await;
    let path = format!("/api/default/groups/{id}/invite-code");
    let first = scene.send("GET", &path, &Value::Null).await;
    assert_eq!(first.header("content-type"), "text/plain; charset=utf-8");
    let is_code = |code: &str| code.len() > 8 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    assert!(is_code(&first.body), "{first:?}");
    let json = answer(
        scene
            .request("GET", &path)
            .header("accept", "application/json"),
    )
    .await;
    assert_eq!(json.header("content-type"), "application/json");
    assert_eq!(json.json(), Value::from(first.body.as_str()));
    let new = scene
        .send("POST", &format!("{path}/revoke"), &Value::Null)
        .await;
    assert_eq!(new.status, 200, "{new:?}");
    assert!(is_code(&new.body) && new.body != first.body, "{new:?}");
    assert_eq!(scene.send("GET", &path, &Value::Null).await.body, new.body);
}

#[tokio::test]
async fn the_whole_reply_is_there_for_those_who_accept_it() {
    let scene = Scene::new().await;
    let id = scene.group(&[]).await;
    let whole = |path: String| {
        let request = scene.request("GET", &path);
        answer(request.header("accept", "application/vnd.groupmq.v1+json"))
    };
    let reply = whole(format!("/api/default/groups/{id}/invite-code")).await;
    assert_eq!(
        reply.header("content-type"),
        "application/vnd.groupmq.v1+json"
    );
    let body = reply.json();
    assert_eq!(
        (&body["type"], &body["status"]),
        (&json!("GetInviteCode"), &json!("ok"))
    );
    assert_eq!(body["engine"], "SANDBOX");
    assert_eq!(body["commandId"], reply.header("x-command-id"));
    assert!(body["result"]["inviteUrl"].is_string(), "{body}");

    let unknown = whole("/api/default/groups/120363000000000001@g.us".to_owned()).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
    assert_eq!(unknown.json()["error"]["code"], "GROUP_NOT_FOUND");
    let path = "/api/default/groups/120363000000000001@g.us";
    scene
        .send("GET", path, &Value::Null)
        .await
        .assert_problem(404, "GROUP_NOT_FOUND");
    let path = "/api/nobody/groups";
    scene
        .send("GET", path, &Value::Null)
        .await
        .assert_problem(404, "SESSION_NOT_FOUND");
    let request = scene.request("PUT", &format!("/api/second/groups/{id}/leave"));
    answer(with_json(request, &json!({})))
        .await
        .assert_problem(405, "METHOD_NOT_ALLOWED");
}

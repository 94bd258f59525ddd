//! Joining by the link and requests to join, by WAHA's own paths and bodies.

use serde_json::{Value, json};

use super::scene::Scene;

const THIRD: &str = "15550000003@c.us";

#[tokio::test]
async fn a_group_is_joined_by_its_link_and_requests_are_decided() {
    let scene = Scene::new().await;
    let id = scene.group(&[]).await;
    let group = format!("/api/default/groups/{id}");
    let code = format!("{group}/invite-code");
    let code = scene.send("GET", &code, &Value::Null).await.body;

    let link = format!("https%3A%2F%2Fchat.whatsapp.com%2F{code}%3Fmode%3Dac_t");
    for code in [code.as_str(), link.as_str()] {
        let path = format!("/api/third/groups/join-info?code={code}");
        let info = scene.send("GET", &path, &Value::Null).await;
        assert_eq!(info.status, 200, "{info:?}");
        assert_eq!(
            (&info.json()["id"], &info.json()["size"]),
            (&json!(id), &json!(1))
        );
    }
    for query in ["", "?code=", "?code=short"] {
        let path = format!("/api/third/groups/join-info{query}");
        let wrong = scene.send("GET", &path, &Value::Null).await;
        wrong.assert_problem(400, "INVALID_PAYLOAD");
    }

    let approval = json!({ "newMembersApprovalRequired": true });
    let path = format!("{group}/settings/security/membership-approval");
    let set = scene.send("PUT", &path, &approval).await;
    assert_eq!(set.body, "true", "{set:?}");

    let body = json!({ "code": format!("https://chat.whatsapp.com/{code}") });
    let join = "/api/third/groups/join";
    let joined = scene.send("POST", join, &body).await;
    let wanted = json!({ "groupId": id, "outcome": "pendingApproval", "id": id });
    assert_eq!((joined.status.as_u16(), joined.json()), (200, wanted));

    let requests = format!("{group}/participants/join-requests");
    let waiting = scene.send("GET", &requests, &Value::Null).await.json();
    assert_eq!(waiting[0]["requesterId"], THIRD, "{waiting}");
    assert_eq!(waiting[0]["requestMethod"], "invite_link", "{waiting}");
    for absent in ["addedById", "parentGroupId"] {
        assert!(waiting[0][absent].is_null(), "{waiting}");
    }

    let people = json!({ "participants": [{ "id": THIRD }] });
    for (decision, success, more) in [
        ("reject", true, json!(["ok", 200])),
        ("approve", false, json!(["notMember", 404])),
    ] {
        let path = format!("{requests}/{decision}");
        let decided = scene.send("POST", &path, &people).await;
        assert_eq!(decided.status, 200, "{decided:?}");
        let decided = decided.json();
        assert_eq!(decided[0]["requesterId"], THIRD, "{decided}");
        assert_eq!(decided[0]["success"], success, "{decided}");
        let error = if success { Value::Null } else { json!(404) };
        assert_eq!(decided[0]["error"], error, "{decided}");
        let ours = json!([decided[0]["outcome"], decided[0]["code"]]);
        assert_eq!(ours, more, "{decided}");
    }
    let nobody = json!({ "participants": [] });
    let path = format!("{requests}/approve");
    let nobody = scene.send("POST", &path, &nobody).await;
    assert_eq!(nobody.body, "[]", "{nobody:?}");

    let unknown = json!({ "code": "AAAAAAAAAAAAAAAAAAAAAA" });
    let unknown = scene.send("POST", join, &unknown).await;
    unknown.assert_problem(404, "GROUP_NOT_FOUND");
    let revoke = format!("{group}/invite-code/revoke");
    scene.send("POST", &revoke, &Value::Null).await;
    let revoked = scene.send("POST", join, &body).await;
    revoked.assert_problem(422, "ENGINE_REJECTED");
}

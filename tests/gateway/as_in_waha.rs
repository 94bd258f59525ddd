//! What programs that were written for WAHA send, and what the gateway makes of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::scene::{Scene, answer, with_json};

const ONE: &str = "15550000101";
const TWO: &str = "15550000102";

/// The warning that names ignored fields.
fn warning(fields: &str) -> String {
    format!("299 groupmq \"Unknown fields were ignored: {fields}\"")
}

#[tokio::test]
async fn a_path_may_end_in_a_slash() {
    let scene = Scene::new().await;
    let new = json!({ "name": "Group name", "participants": [] });
    let made = scene.send("POST", "/api/default/groups/", &new).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let group = format!("/api/default/groups/{id}");
    for (method, path, body) in [
        ("GET", "/api/default/groups/".to_owned(), Value::Null),
        (
            "GET",
            "/api/default/groups/?limit=1".to_owned(),
            Value::Null,
        ),
        ("GET", format!("{group}/"), Value::Null),
        ("GET", format!("{group}/participants/"), Value::Null),
        ("GET", format!("{group}/invite-code/"), Value::Null),
        (
            "PUT",
            format!("{group}/subject/"),
            json!({ "subject": "New" }),
        ),
        ("POST", format!("{group}/leave/"), Value::Null),
    ] {
        let said = scene.send(method, &path, &body).await;
        assert_eq!(said.status, 200, "{method} {path}: {said:?}");
    }
    let command = made.header("x-command-id");
    let status = format!("/api/commands/{command}/?session=default");
    let status = scene.send("GET", &status, &Value::Null).await;
    assert_eq!(status.json()["state"], "done", "{status:?}");
    let patched = scene.send("PATCH", "/api/default/groups/", &new).await;
    patched.assert_problem(405, "METHOD_NOT_ALLOWED");
    let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
    assert!(!metrics.contains("groups/\""), "{metrics}");
}

#[tokio::test]
async fn an_empty_parameter_says_nothing_and_a_limit_of_0_bounds_nothing() {
    let scene = Scene::new().await;
    let empty = scene.group(&[]).await;
    scene.group(&[]).await;
    for query in [
        "limit=",
        "limit=0",
        "limit=&offset=&sortBy=&sortOrder=&exclude=",
        "limit=0&offset=0&exclude=",
    ] {
        let path = format!("/api/default/groups?{query}");
        let listed = scene.send("GET", &path, &Value::Null).await;
        assert_eq!(listed.status, 200, "{query}: {listed:?}");
        assert_eq!(listed.json().as_array().unwrap().len(), 2, "{query}");
    }
    let path = format!("/api/default/groups/{empty}?forEveryone=");
    let deleted = scene.send("DELETE", &path, &Value::Null).await;
    assert_eq!(deleted.body, "true", "{deleted:?}");
    let limited = scene.send("GET", "/api/default/groups?limit=-0", &Value::Null);
    limited.await.assert_problem(400, "INVALID_PAYLOAD");
}

#[tokio::test]
async fn people_are_named_by_their_numbers_too() {
    let scene = Scene::new().await;
    let people = json!([ONE, { "id": format!("+{TWO}") }]);
    let new = json!({ "name": "Group name", "participants": people });
    let made = scene.send("POST", "/api/default/groups", &new).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let outcomes = made["outcomes"].as_array().unwrap();
    let told: Vec<_> = outcomes.iter().map(|it| (&it["id"], &it["code"])).collect();
    let id = |number: &str| json!(format!("{number}@c.us"));
    assert_eq!(told, [(&id(ONE), &json!(200)), (&id(TWO), &json!(200))]);
    let path = format!(
        "/api/default/groups/{}/admin/promote",
        made["id"].as_str().unwrap()
    );
    let device = json!({ "participants": [format!("{ONE}:12@s.whatsapp.net")] });
    let promoted = scene.send("POST", &path, &device).await;
    assert_eq!(promoted.json()[0]["id"], id(ONE), "{promoted:?}");
    assert_eq!(promoted.json()[0]["outcome"], "ok", "{promoted:?}");
    let twice = json!({ "participants": [ONE, format!("{ONE}@c.us")] });
    let twice = scene.send("POST", &path, &twice).await;
    twice.assert_problem(400, "INVALID_PAYLOAD");
}

#[tokio::test]
async fn unknown_fields_beside_known_ones_are_ignored_and_named() {
    let scene = Scene::new().await;
    let new = json!({
        "name": "Group name", "session": "default", "private 491700000001": 1,
        // As WAHA answers a question for the members.
        "participants": [{ "id": format!("{ONE}@c.us"), "role": "participant" }],
    });
    let made = scene.send("POST", "/api/default/groups", &new).await;
    assert_eq!(made.status, 201, "{made:?}");
    let named = made.header("warning");
    for field in ["/session", "/?", "/participants/0/role"] {
        assert!(named.contains(field), "{named}");
    }
    assert!(!named.contains("4917"), "{named}");
    let made = made.json();
    assert_eq!(made["outcomes"][0]["code"], 200, "{made}");

    let id = made["id"].as_str().unwrap();
    let group = format!("/api/default/groups/{id}");
    // What the path says counts, and an answer that is given later is warned of as well.
    let other = json!({ "subject": "New", "groupId": "123123123123@g.us" });
    let renamed = scene.send("PUT", &format!("{group}/subject"), &other).await;
    assert_eq!(renamed.body, "true", "{renamed:?}");
    assert_eq!(renamed.header("warning"), warning("/groupId"));
    let later = scene
        .request("PUT", &format!("{group}/description"))
        .header("prefer", "respond-async");
    let later = with_json(
        later,
        &json!({ "description": "x", "extra": [1, { "a": 2 }] }),
    );
    let later = answer(later).await;
    assert_eq!(later.status, 202, "{later:?}");
    assert_eq!(later.header("warning"), warning("/extra"));
    let plain = scene
        .send(
            "PUT",
            &format!("{group}/subject"),
            &json!({ "subject": "x" }),
        )
        .await;
    assert_eq!(plain.header("warning"), "");
    let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
    assert!(
        !metrics.contains("groupmq_dead_letters_total{"),
        "{metrics}"
    );
}

#[tokio::test]
async fn unknown_fields_alone_are_a_mistake() {
    let scene = Scene::new().await;
    let id = scene.group(&[]).await;
    let path = format!("/api/default/groups/{id}/settings/security/info-admin-only");
    // Without the field this would mean the contrary.
    let misspelt = scene
        .send("PUT", &path, &json!({ "adminOnly": false }))
        .await;
    misspelt.assert_problem(400, "INVALID_PAYLOAD");
    assert_eq!(misspelt.json()["details"][0]["path"], "/adminOnly");
    let odd = json!({ "an odd name": false });
    let odd = scene.send("PUT", &path, &odd).await;
    odd.assert_problem(400, "INVALID_PAYLOAD");
    let both = json!({ "adminsOnly": false, "adminOnly": true });
    let both = scene.send("PUT", &path, &both).await;
    assert_eq!(both.body, "true", "{both:?}");
    assert_eq!(both.header("warning"), warning("/adminOnly"));
    // Where something else is wrong too, all of it is named.
    let wrong = json!({ "subjct": "x" });
    let path = format!("/api/default/groups/{id}/subject");
    let wrong = scene.send("PUT", &path, &wrong).await;
    wrong.assert_problem(400, "INVALID_PAYLOAD");
    assert_eq!(wrong.json()["details"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn each_setting_has_wahas_path_and_body() {
    let scene = Scene::new().await;
    let id = scene.group(&[ONE]).await;
    let settings = format!("/api/default/groups/{id}/settings");
    for (path, field, changed) in [
        ("messages-admin-only", "adminsOnly", true),
        ("member-add-mode", "membersCanAddNewMember", false),
        ("membership-approval", "newMembersApprovalRequired", true),
        ("member-share-history-mode", "membersCanShareHistory", false),
    ] {
        let path = format!("{settings}/security/{path}");
        let read = scene.send("GET", &path, &Value::Null).await;
        assert_eq!(read.status, 200, "{path}: {read:?}");
        assert_eq!(read.json(), json!({ field: !changed }), "{path}");
        let set = scene.send("PUT", &path, &json!({ field: changed })).await;
        assert_eq!((set.status.as_u16(), set.body.as_str()), (200, "true"));
        let read = scene.send("GET", &path, &Value::Null).await;
        assert_eq!(read.json(), json!({ field: changed }), "{path}");
        // WAHA takes a missing field for false; nothing is changed by mistake here.
        let missing = scene.send("PUT", &path, &json!({})).await;
        missing.assert_problem(400, "INVALID_PAYLOAD");
    }
    let path = format!("{settings}/disappearing-messages");
    let set = scene.send("PUT", &path, &json!({"seconds": 604_800})).await;
    assert_eq!((set.status.as_u16(), set.body.as_str()), (200, "true"));
    let odd = scene.send("PUT", &path, &json!({"seconds": 5})).await;
    odd.assert_problem(400, "INVALID_PAYLOAD");
    let group = scene
        .send("GET", &format!("/api/default/groups/{id}"), &Value::Null)
        .await;
    assert_eq!(group.json()["settings"]["disappearingSeconds"], 604_800);
}

#[tokio::test]
async fn a_group_becomes_as_wanted_by_a_put_of_it() {
    let scene = Scene::new().await;
    let id = scene.group(&[ONE]).await;
    let path = format!("/api/default/groups/{id}");
    let wish = json!({"name": "As wanted", "participants": [{"id": ONE, "role": "admin"}]});
    let mut plan = wish.clone();
    plan["plan"] = json!(true);
    let planned = scene.send("PUT", &path, &plan).await;
    let done = scene.send("PUT", &path, &wish).await;
    assert_eq!(planned.status, 200, "{planned:?}");
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(planned.json()["changes"], done.json()["changes"]);
    assert_eq!(done.json()["group"]["subject"], "As wanted");
    let again = scene.send("PUT", &path, &wish).await;
    assert_eq!(again.json()["changes"], json!([]));
    let odd = scene.send("PUT", &path, &json!({"exact": true})).await;
    odd.assert_problem(400, "INVALID_PAYLOAD");
    // WAHA has no such request, so nobody may rely on unknown fields being ignored.
    let misspelt = json!({"name": "Other", "description": "", "partcipants": [ONE]});
    let misspelt = scene.send("PUT", &path, &misspelt).await;
    misspelt.assert_problem(400, "INVALID_PAYLOAD");
}

#[tokio::test]
async fn groups_are_counted_and_refreshed_at_wahas_paths() {
    let scene = Scene::new().await;
    scene.group(&[ONE]).await;
    let count = scene
        .send("GET", "/api/default/groups/count", &Value::Null)
        .await;
    assert_eq!(
        (count.status.as_u16(), count.body.as_str()),
        (200, r#"{"count":1}"#)
    );
    let refreshed = scene
        .send("POST", "/api/default/groups/refresh", &Value::Null)
        .await;
    assert_eq!(
        (refreshed.status.as_u16(), refreshed.body.as_str()),
        (200, r#"{"success":true}"#)
    );
}

#[tokio::test]
async fn a_list_of_nobody_is_answered_by_an_empty_list() {
    let scene = Scene::new().await;
    let id = scene.group(&[ONE]).await;
    let nobody = json!({ "participants": [] });
    for path in [
        "participants/add",
        "participants/remove",
        "admin/promote",
        "admin/demote",
    ] {
        let path = format!("/api/default/groups/{id}/{path}");
        let said = scene.send("POST", &path, &nobody).await;
        assert_eq!((said.status.as_u16(), said.body.as_str()), (200, "[]"));
    }
    let unknown = "/api/default/groups/123123123123@g.us/participants/add";
    let unknown = scene.send("POST", unknown, &nobody).await;
    unknown.assert_problem(404, "GROUP_NOT_FOUND");
}

#[tokio::test]
async fn a_byte_order_mark_before_a_body_does_not_matter() {
    let scene = Scene::new().await;
    let body = "\u{feff}{\"name\":\"Group name\",\"participants\":[]}";
    let request = scene
        .request("POST", "/api/default/groups")
        .header("content-type", "application/json")
        .body(body);
    let made = answer(request).await;
    assert_eq!(made.status, 201, "{made:?}");
}

#[tokio::test]
async fn the_root_leads_to_the_documentation() {
    let scene = Scene::new().await;
    let root = scene.send("GET", "/", &Value::Null).await;
    assert_eq!(root.status, 307, "{root:?}");
    assert_eq!(root.header("location"), "/docs");
    let docs = scene.send("GET", "/docs", &Value::Null).await;
    let page = scene
        .send("GET", docs.header("location"), &Value::Null)
        .await;
    assert_eq!(page.status, 200, "{page:?}");
}

#[tokio::test]
async fn a_picture_is_a_file_and_the_answer_says_success() {
    let scene = Scene::with(|options| options.set("gateway.body_max", "2048")).await;
    let group = scene.group(&[]).await;
    let picture = format!("/api/default/groups/{group}/picture");
    let url = async || scene.send("GET", &picture, &Value::Null).await.json();
    assert_eq!(url().await, json!({ "url": null }));
    // Bytes behind its end do not make a PNG invalid.
    let png: &[u8] = include_bytes!("../support/data/pictures/small.png");
    let mut longer = png.to_vec();
    longer.resize(400 << 10, 0);
    let data = STANDARD.encode(&longer);
    let file = json!({"file": {"mimetype": "image/png", "filename": "a.png", "data": data}});
    let set = scene.send("PUT", &picture, &file).await;
    assert_eq!(set.status, 200, "{set:?}");
    assert_eq!(set.json(), json!({"success": true}), "{set:?}");
    assert_eq!(set.header("warning"), "");
    assert!(url().await["url"].is_string());
    let deleted = scene
        .send("DELETE", &format!("{picture}/"), &Value::Null)
        .await;
    assert_eq!(deleted.json(), json!({"success": true}), "{deleted:?}");
    let refreshed = scene
        .send("GET", &format!("{picture}?refresh=true"), &Value::Null)
        .await;
    assert_eq!(refreshed.json(), json!({ "url": null }));

    for (file, path) in [
        (json!({"data": "R0lGODlhAQABAIAAAAA="}), "/file/data"),
        (json!({"data": STANDARD.encode(&png[..40])}), "/file/data"),
        (json!({"url": "http://127.0.0.1:9/a.png"}), "/file/url"),
        (json!({"mimetype": "image/png"}), "/file"),
    ] {
        let wrong = scene.send("PUT", &picture, &json!({ "file": file })).await;
        wrong.assert_problem(400, "INVALID_PAYLOAD");
        assert_eq!(wrong.json()["details"][0]["path"], path, "{wrong:?}");
    }
    let large = json!({"file": {"data": "A".repeat(6 << 20)}});
    let large = scene.send("PUT", &picture, &large).await;
    large.assert_problem(413, "CONTENT_TOO_LARGE");
}

#[tokio::test]
async fn private_ids_are_looked_up_by_wahas_paths() {
    let scene = Scene::new().await;
    let group = scene.group(&[ONE]).await;
    let get = async |path: &str| {
        let got = scene
            .send("GET", &format!("/api/default/{path}"), &Value::Null)
            .await;
        assert_eq!(got.status, 200, "{path}: {got:?}");
        got.json()
    };
    let people = get(&format!("groups/{group}/participants/v2")).await;
    let one = format!("{ONE}@c.us");
    let wanted = json!({"id": one, "role": "participant", "pn": one});
    assert_eq!(people[1], wanted);
    let lids = get("lids").await;
    let count = lids.as_array().unwrap().len();
    assert_eq!(get("lids/count/").await, json!({ "count": count }));
    assert_eq!(get("lids?limit=1&offset=1").await, json!([lids[1]]));
    let lid = lids[1]["lid"].as_str().unwrap();
    for path in [
        format!("lids/{lid}"),
        format!("lids/{}", lid.replace('@', "%40")),
        format!("lids/{}", lid.trim_end_matches("@lid")),
        format!("lids/pn/{}", lids[1]["pn"].as_str().unwrap()),
    ] {
        assert_eq!(get(&path).await, lids[1], "{path}");
    }
    let wrong = scene.send("GET", "/api/default/lids/x", &Value::Null).await;
    wrong.assert_problem(400, "INVALID_PAYLOAD");
    assert_eq!(wrong.json()["details"][0]["path"], "/lid");
}

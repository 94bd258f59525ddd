//! Who may do what: keys, their sessions, reading and writing.

use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::scene::{Answer, Scene, answer, with_json};

const SHOP: &str = "the-key-of-the-shop";
const READER: &str = "the-key-of-the-reader";

async fn guarded() -> Scene {
    let hashed = format!("{:x}", Sha512::digest(READER));
    Scene::with(|options| {
        options
            .set("gateway.keys.shop.key", SHOP)
            .set("gateway.keys.shop.sessions", "def*")
            .set("gateway.keys.shop.access", "write")
            .set("gateway.keys.reader.key", format!("sha512:{hashed}"))
            .set("gateway.keys.reader.sessions", "*")
            .set("gateway.keys.reader.access", "read")
    })
    .await
}

async fn with_key(scene: &Scene, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let mut request = scene.request(method, path);
    if !key.is_empty() {
        request = request.header("x-api-key", key);
    }
    answer(with_json(request, body)).await
}

#[tokio::test]
async fn a_key_opens_its_sessions_to_reading_or_to_writing() {
    let scene = guarded().await;
    let new = json!({ "name": "Group name", "participants": [] });
    let make = async |key, path| with_key(&scene, key, "POST", path, &new).await;
    let list = async |key, path| with_key(&scene, key, "GET", path, &json!({})).await;

    for key in ["", "the-key-of-nobody", "the-key-of-the-sho"] {
        let refused = make(key, "/api/default/groups").await;
        refused.assert_problem(401, "UNAUTHORIZED");
        assert_eq!(
            refused.header("www-authenticate"),
            "ApiKey realm=\"groupmq\""
        );
    }
    assert_eq!(make(SHOP, "/api/default/groups").await.status, 201);
    make(SHOP, "/api/second/groups")
        .await
        .assert_problem(403, "FORBIDDEN");
    list(SHOP, "/api/second/groups")
        .await
        .assert_problem(403, "FORBIDDEN");
    make(READER, "/api/default/groups")
        .await
        .assert_problem(403, "FORBIDDEN");
    assert_eq!(list(READER, "/api/second/groups").await.status, 200);
    let in_query = format!("/api/default/groups?x-api-key={READER}");
    assert_eq!(list("", &in_query).await.status, 200);
    // A header that is there is not made up for by the query.
    list("wrong-key-wrong-key", &in_query)
        .await
        .assert_problem(401, "UNAUTHORIZED");

    let path = "/api/commands/x?session=second";
    list(SHOP, path).await.assert_problem(403, "FORBIDDEN");
    list(READER, path)
        .await
        .assert_problem(404, "COMMAND_UNKNOWN");
    list("", "/api/default/events")
        .await
        .assert_problem(401, "UNAUTHORIZED");
    list(SHOP, "/api/second/events")
        .await
        .assert_problem(403, "FORBIDDEN");
    assert_eq!(list("", "/openapi.json").await.status, 200);
    let log = scene.worker.log();
    assert!(!log.contains(SHOP) && !log.contains(READER), "{log}");
}

#[tokio::test]
async fn without_keys_pages_of_other_sites_are_kept_out() {
    let scene = Scene::new().await;
    let id = scene.group(&[]).await;
    let path = format!("/api/default/groups/{id}/leave");
    let from = |name: &'static str, value: String| {
        answer(scene.request("POST", &path).header(name, value))
    };
    from("origin", "https://evil.example".to_owned())
        .await
        .assert_problem(403, "FORBIDDEN");
    from("origin", "null".to_owned())
        .await
        .assert_problem(403, "FORBIDDEN");
    from("sec-fetch-site", "cross-site".to_owned())
        .await
        .assert_problem(403, "FORBIDDEN");
    // The site's name leads to this machine by now: it is one site to the browser.
    let rebound = scene.request("POST", &path).header("host", "evil.example");
    let rebound = answer(rebound.header("origin", "http://evil.example")).await;
    rebound.assert_problem(403, "FORBIDDEN");
    assert!(rebound.body.contains("localhost"), "{rebound:?}");
    let own = from("origin", format!("http://{}", scene.address)).await;
    assert_eq!(own.body, "true", "{own:?}");
}

#[test]
fn a_gateway_for_everybody_has_to_be_asked_for() {
    let check = |open: &str| {
        super::scene::options("amqp://nowhere", "p")
            .set("gateway.listen", "0.0.0.0:8080")
            .set("gateway.open", open)
            .command(&["config", "check"])
            .output()
            .unwrap()
    };
    let refused = check("false");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("gateway.listen:"), "{said}");
    assert!(check("true").status.success());
}

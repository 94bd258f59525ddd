//! Pictures through a WAHA that lacks them, or refuses one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use groupmq_test_support::waha::{Fault, Quirks};
use serde_json::json;

use crate::behaviour::stage::{Kind, Stage};

const PNG: &[u8] = include_bytes!("../../support/data/pictures/small.png");

#[tokio::test]
async fn a_waha_without_pictures_is_named_with_the_version_that_has_them() {
    let stage = Stage::new(Kind::Gows).await;
    let id = stage.group("Old", &[]).await;
    for method in ["GET", "PUT", "DELETE"] {
        let words = format!(r#"{{"message":"Cannot {method} /api/x","statusCode":404}}"#);
        for end in [
            "/picture",
            "/picture?refresh=false",
            "/picture?refresh=true",
        ] {
            let fault = Fault::Answer(404, words.clone());
            stage.waha().fail_always(&format!("{method} {end}"), fault);
        }
    }
    let it = json!({ "groupId": id });
    let picture = json!({"groupId": id, "picture": {"data": STANDARD.encode(PNG)}});
    for (name, payload) in [
        ("GetGroupPicture", it.clone()),
        ("SetGroupPicture", picture),
        ("DeleteGroupPicture", it.clone()),
    ] {
        let error = stage.ask("default", name, payload).await["error"].take();
        assert_eq!(error["code"], "NOT_SUPPORTED", "{name}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("2025.2"), "{name}: {message}");
    }
}

#[tokio::test]
async fn a_picture_that_whatsapp_does_not_accept_is_rejected_without_an_event() {
    let stage = Stage::new(Kind::Noweb).await;
    let id = stage.group("Refused", &[]).await;
    stage.waha().fail("PUT /picture", Fault::WhatsApp(406));
    let picture = json!({"groupId": id, "picture": {"data": STANDARD.encode(PNG)}});
    let code = stage.refusal("default", "SetGroupPicture", picture).await;
    assert_eq!(code, "ENGINE_REJECTED");
    let named = json!({"groupId": id, "subject": "Next"});
    assert_eq!(
        stage.result("default", "SetGroupSubject", named).await,
        true
    );
    let events = stage.events("default", &id, 3).await;
    assert_eq!(
        events[2],
        r#"group.v2.update subject="Next" by SetGroupSubject"#
    );
}

/// The events of its return are lost, so only WAHA knows that the account is a member again.
#[tokio::test]
async fn the_picture_of_a_group_that_was_left_is_shown_to_who_is_back() {
    let stage = Stage::with(Kind::Gows, |options| {
        options.set("engine.waha.reconcile.interval", "1h")
    })
    .await;
    let id = stage.group("Back", &["491700000001@c.us"]).await;
    let it = json!({ "groupId": id });
    let picture = json!({"groupId": id, "picture": {"data": STANDARD.encode(PNG)}});
    stage.result("default", "SetGroupPicture", picture).await;
    stage.result("default", "LeaveGroup", it.clone()).await;
    let left = stage.refusal("default", "GetGroupPicture", it.clone());
    assert_eq!(left.await, "NOT_A_MEMBER");
    stage.waha().set(Quirks {
        deaf: true,
        recent: true,
        ..Quirks::default()
    });
    stage
        .waha()
        .by_hand(&id, |group| group.add(&["15550000001"]));
    let shown = stage.result("default", "GetGroupPicture", it).await;
    assert!(shown["url"].is_string(), "{shown}");
}

//! The picture of a group.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::stage::{Kind, SECOND, Stage};

const ONE: &str = "491700000001@c.us";
const JPEG: &[u8] = include_bytes!("../../support/data/pictures/small.jpg");
const PNG: &[u8] = include_bytes!("../../support/data/pictures/small.png");

fn picture(id: &str, bytes: &[u8]) -> Value {
    json!({"groupId": id, "picture": {"data": STANDARD.encode(bytes)}})
}

pub(super) async fn are_set_shown_and_removed(stage: Stage) {
    let id = stage.group("Pictures", &[ONE, SECOND]).await;
    let it = json!({ "groupId": id });
    let url = async |refresh: bool| {
        let asked = json!({"groupId": id, "refresh": refresh});
        stage.result("default", "GetGroupPicture", asked).await["url"].clone()
    };
    assert_eq!(url(false).await, Value::Null);
    let set = stage.result("default", "SetGroupPicture", picture(&id, JPEG));
    assert_eq!(set.await, true);
    let first = url(true).await;
    assert!(first.as_str().unwrap().starts_with("https://"), "{first}");
    // An open group: a member may change its picture too.
    let set = stage.result("second", "SetGroupPicture", picture(&id, PNG));
    assert_eq!(set.await, true);
    assert_ne!(url(true).await, first);

    let locked = stage.result("default", "SetInfoAdminOnly", it.clone());
    assert_eq!(locked.await, true);
    let set = stage.result("second", "SetGroupPicture", picture(&id, JPEG));
    assert_eq!(set.await, false);
    let deleted = stage.result("second", "DeleteGroupPicture", it.clone());
    assert_eq!(deleted.await, false);
    assert_ne!(url(true).await, Value::Null);

    // The second time there is nothing to remove, which is no change.
    for _ in 0..2 {
        let deleted = stage.result("default", "DeleteGroupPicture", it.clone());
        assert_eq!(deleted.await, true);
        assert_eq!(url(true).await, Value::Null);
    }
    let cut = JPEG.get(..JPEG.len() / 2).unwrap();
    let reply = stage.ask("default", "SetGroupPicture", picture(&id, cut));
    let error = &reply.await["error"];
    assert_eq!(error["code"], "INVALID_PAYLOAD", "{error}");
    assert_eq!(error["details"][0]["path"], "/payload/picture/data");

    assert_eq!(stage.result("second", "LeaveGroup", it.clone()).await, true);
    for (session, code) in [("second", "NOT_A_MEMBER"), ("third", "GROUP_NOT_FOUND")] {
        for (name, payload) in [
            ("GetGroupPicture", it.clone()),
            ("SetGroupPicture", picture(&id, PNG)),
            ("DeleteGroupPicture", it.clone()),
        ] {
            let refusal = stage.refusal(session, name, payload).await;
            assert_eq!(refusal, code, "{:?} {name}", stage.kind);
        }
    }
    let wanted = [
        "group.v2.join by CreateGroup",
        "group.join create 15550000001 01 15550000002 by CreateGroup",
        r#"group.v2.update picture="changed" by SetGroupPicture"#,
    ];
    // What another account does to the picture, WAHA does not tell.
    let count = if stage.kind == Kind::Sandbox { 8 } else { 7 };
    let events = stage.events("default", &id, count).await;
    assert_eq!(events.len(), count, "{:?}: {events:#?}", stage.kind);
    assert_eq!(events[..3], wanted, "{:?}", stage.kind);
    let removed = r#"group.v2.update picture="removed" by DeleteGroupPicture"#;
    let removals = events.iter().filter(|it| *it == removed).count();
    assert_eq!(removals, 1, "{:?}: {events:#?}", stage.kind);
    stage.assert_valid();
}

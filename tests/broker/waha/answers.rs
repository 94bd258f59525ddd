//! Whom an answer is about: people are answered under the id that they were named by, whatever WhatsApp
//! calls them.

use groupmq_test_support::waha::Quirks;
use serde_json::json;

use crate::behaviour::stage::{Kind, Stage, outcomes};

const ONE: &str = "491700000001@c.us";
/// With the ninth digit; WhatsApp has the number without.
const BRAZIL: &str = "5511987654321@c.us";

#[tokio::test]
async fn people_are_answered_under_the_id_that_was_asked_for() {
    for (kind, lids) in [
        (Kind::Webjs, false),
        (Kind::Noweb, false),
        (Kind::Noweb, true),
        (Kind::Gows, false),
        (Kind::Gows, true),
    ] {
        let stage = Stage::new(kind).await;
        stage.waha().set(Quirks {
            lids,
            ..Quirks::default()
        });
        stage.waha().own_form("5511987654321", "551187654321");
        let id = stage.group("Names", &[]).await;
        let named = json!({"groupId": id, "participants": [ONE, BRAZIL]});
        for (name, promise) in [
            ("AddParticipants", "ok 200"),
            ("PromoteAdmin", "ok 200"),
            ("PromoteAdmin", "alreadyAdmin 200"),
            ("DemoteAdmin", "ok 200"),
            ("RemoveParticipants", "ok 200"),
            ("RemoveParticipants", "notMember 404"),
        ] {
            let told = stage.result("default", name, named.clone()).await;
            let promise = [format!("01 {promise}"), format!("5511987654321 {promise}")];
            assert_eq!(outcomes(&told), promise, "{kind:?} {lids} {name}");
        }
    }
}

/// WhatsApp calls somebody by a number that nobody knows to be theirs, and refuses to add them.
#[tokio::test]
async fn where_no_id_tells_whom_an_answer_is_about_its_place_does() {
    for kind in [Kind::Webjs, Kind::Noweb, Kind::Gows] {
        let stage = Stage::new(kind).await;
        stage.waha().own_form("491700000002", "99900000000403");
        let id = stage.group("Places", &[]).await;
        let named = json!({"groupId": id, "participants": [ONE, "491700000002@c.us"]});
        let told = stage.result("default", "AddParticipants", named).await;
        assert_eq!(
            outcomes(&told),
            ["01 ok 200", "02 privacyBlocked 403"],
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn somebody_whom_the_list_lacks_is_asked_for() {
    for kind in [Kind::Noweb, Kind::Gows] {
        let stage = Stage::new(kind).await;
        let id = stage.group("Partial", &[ONE]).await;
        stage.waha().hide(&id, &["491700000001"]);
        let absent = "491700000009@c.us";
        let named = json!({"groupId": id, "participants": [ONE, absent]});
        let told = stage.result("default", "RemoveParticipants", named).await;
        assert_eq!(
            outcomes(&told),
            ["01 ok 200", "09 notMember 404"],
            "{kind:?}"
        );
        assert_eq!(stage.waha().group(&id).unwrap().members.len(), 1);
    }
}

//! Who may do what.

use serde_json::json;

use super::groups::{SETTINGS, has};
use super::stage::{Kind, ME, SECOND, Stage, outcomes};

const ONE: &str = "491700000001@c.us";
const TWO: &str = "491700000002@c.us";
const THREE: &str = "491700000003@c.us";

pub(super) async fn of_members(stage: Stage) {
    let id = stage.group("Rights", &[ONE, SECOND]).await;
    let it = json!({ "groupId": id });
    let on = |who: &str| json!({"groupId": id, "participants": [who]});
    let named = |subject: &str| json!({"groupId": id, "subject": subject});

    // An open group: members may call it something, and add people.
    assert_eq!(
        stage
            .result("second", "SetGroupSubject", named("Open"))
            .await,
        true
    );
    let added = stage.result("second", "AddParticipants", on(THREE)).await;
    assert_eq!(outcomes(&added), ["03 ok 200"]);

    assert_eq!(
        stage
            .result("default", "SetInfoAdminOnly", it.clone())
            .await,
        true
    );
    assert_eq!(
        stage
            .result("second", "SetGroupSubject", named("Shut"))
            .await,
        false
    );
    let description = json!({"groupId": id, "description": "Shut"});
    assert_eq!(
        stage
            .result("second", "SetGroupDescription", description)
            .await,
        false
    );
    let open = json!({"groupId": id, "adminsOnly": false});
    assert_eq!(
        stage.result("second", "SetInfoAdminOnly", open).await,
        false
    );
    for (setting, field, value, _) in SETTINGS {
        if !has(&stage, setting) {
            continue;
        }
        // Members read the settings, and only admins change them.
        let (get, set) = (format!("Get{setting}"), format!("Set{setting}"));
        let read = stage.result("second", &get, it.clone()).await;
        assert_eq!(read, json!({field: !value}), "{setting}");
        let payload = json!({"groupId": id, field: value});
        let done = stage.result("second", &set, payload).await;
        assert_eq!(done, false, "{setting}");
    }
    if has(&stage, "MemberAddMode") {
        let only_admins = json!({"groupId": id, "membersCanAddNewMember": false});
        let set = stage.result("default", "SetMemberAddMode", only_admins);
        assert_eq!(set.await, true);
        let refused = stage.refusal("second", "AddParticipants", on(TWO)).await;
        assert_eq!(refused, "NOT_ALLOWED", "{:?}", stage.kind);
    }
    for (name, payload) in [
        ("PromoteAdmin", on(ONE)),
        ("DemoteAdmin", on(ME)),
        ("RemoveParticipants", on(ONE)),
        ("GetInviteCode", it.clone()),
        ("RevokeInviteCode", it.clone()),
        ("DeleteGroup", json!({"groupId": id, "forEveryone": true})),
    ] {
        assert_eq!(
            stage.refusal("second", name, payload).await,
            "NOT_ALLOWED",
            "{name}"
        );
    }
    let group = stage.result("second", "GetGroup", it.clone()).await;
    assert_eq!(group["subject"], "Open");
    assert_eq!(group["size"], 4);
    // Removing oneself is leaving.
    let left = stage
        .result("second", "RemoveParticipants", on(SECOND))
        .await;
    assert_eq!(outcomes(&left), ["15550000002 ok 200"]);
    assert_eq!(
        stage.refusal("second", "GetGroup", it).await,
        "NOT_A_MEMBER"
    );
    stage.assert_valid();
}

pub(super) async fn of_strangers(stage: Stage) {
    let theirs = stage.group("Not yours", &[ONE]).await;
    for id in [theirs.as_str(), "120363999999999999@g.us"] {
        let it = json!({ "groupId": id });
        let on = json!({"groupId": id, "participants": [ONE]});
        for (name, payload) in [
            ("GetGroup", it.clone()),
            ("GetParticipants", it.clone()),
            ("GetInfoAdminOnly", it.clone()),
            ("GetInviteCode", it.clone()),
            ("RevokeInviteCode", it.clone()),
            ("LeaveGroup", it.clone()),
            ("DeleteGroup", it.clone()),
            ("AddParticipants", on.clone()),
            ("RemoveParticipants", on.clone()),
            ("PromoteAdmin", on.clone()),
            ("DemoteAdmin", on.clone()),
            ("SetInfoAdminOnly", it.clone()),
            ("SetGroupSubject", json!({"groupId": id, "subject": "Mine"})),
        ] {
            let code = stage.refusal("third", name, payload).await;
            assert_eq!(code, "GROUP_NOT_FOUND", "{:?} {name} {id}", stage.kind);
        }
    }
    let nobody = stage.refusal("nobody", "ListGroups", json!({})).await;
    assert_eq!(nobody, "SESSION_NOT_FOUND");
    stage.assert_valid();
}

pub(super) async fn of_the_creator(stage: Stage) {
    let id = stage.group("Mine", &[ONE, SECOND]).await;
    let on = |who: &str| json!({"groupId": id, "participants": [who]});
    let promoted = stage.result("default", "PromoteAdmin", on(SECOND)).await;
    assert_eq!(outcomes(&promoted), ["15550000002 ok 200"]);
    // WhatsApp's own code, where the engine tells it.
    let told = matches!(stage.kind, Kind::Noweb | Kind::Gows);
    for (name, code) in [
        ("RemoveParticipants", 403),
        ("DemoteAdmin", if told { 405 } else { 403 }),
    ] {
        let refused = stage.result("second", name, on(ME)).await;
        let wanted = format!("15550000001 notAllowed {code}");
        assert_eq!(outcomes(&refused), [wanted], "{name}");
    }
    let everyone = json!({"groupId": id, "forEveryone": true});
    assert_eq!(
        stage.refusal("second", "DeleteGroup", everyone).await,
        "NOT_ALLOWED"
    );
    let group = stage
        .result("second", "GetGroup", json!({ "groupId": id }))
        .await;
    assert_eq!(group["size"], 3);
    stage.assert_valid();
}

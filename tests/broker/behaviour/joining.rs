//! Joining by the link, and requests that an admin decides.

use serde_json::{Value, json};

use super::stage::{Kind, ME, SECOND, Stage, outcomes};

const ONE: &str = "491700000001@c.us";
const THIRD: &str = "15550000003@c.us";
const THIRD_LID: &str = "915550000003@lid";

/// The name of the event in short.
const REQUEST: &str = "group.v2.participants.join-request";

async fn link(stage: &Stage, id: &str) -> String {
    let it = json!({ "groupId": id });
    let invite = stage.result("default", "GetInviteCode", it).await;
    invite["inviteUrl"].as_str().unwrap().to_owned()
}

async fn join(stage: &Stage, session: &str, link: &str, id: &str) -> String {
    let joined = stage
        .result(session, "JoinGroup", json!({ "code": link }))
        .await;
    assert_eq!(joined["groupId"], id, "{:?} {joined}", stage.kind);
    joined["outcome"].as_str().unwrap().to_owned()
}

/// The message of a refusal, which has WhatsApp's code.
async fn refused(stage: &Stage, session: &str, link: &str, code: &str, says: &str) {
    for name in ["JoinGroup", "GetJoinInfo"] {
        let reply = stage.ask(session, name, json!({ "code": link })).await;
        let error = &reply["error"];
        assert_eq!(error["code"], code, "{:?} {name} {reply}", stage.kind);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(says), "{:?} {name} {message}", stage.kind);
    }
}

pub(super) async fn by_the_link(stage: Stage) {
    let id = stage.group("Linked", &[ONE]).await;
    let link = link(&stage, &id).await;
    let pasted = format!(" {}/?mode=ac_t\n", link.replace("https://", ""));
    let info = stage
        .result("second", "GetJoinInfo", json!({ "code": pasted }))
        .await;
    assert_eq!(info["id"], id, "{:?}", stage.kind);
    assert_eq!(info["size"], 2, "{:?} {info}", stage.kind);
    assert_eq!(info["owner"], ME, "{:?} {info}", stage.kind);
    assert_eq!(info["newMembersApprovalRequired"], false, "{info}");
    let joined = join(&stage, "second", &pasted, &id).await;
    assert_eq!(joined, "ok", "{:?}", stage.kind);
    let again = join(&stage, "second", &link, &id).await;
    assert_eq!(again, "alreadyMember", "{:?}", stage.kind);
    let it = json!({ "groupId": id });
    let group = stage.result("second", "GetGroup", it.clone()).await;
    assert_eq!(group["size"], 3, "{:?} {group}", stage.kind);
    let wanted = [
        "group.v2.join by JoinGroup",
        "group.join invite 15550000002 by JoinGroup",
    ];
    let seen = stage.events("second", &id, wanted.len()).await;
    assert_eq!(seen, wanted, "{:?}", stage.kind);

    let named = json!({"groupId": id, "participants": [SECOND]});
    let removed = stage.result("default", "RemoveParticipants", named).await;
    assert_eq!(outcomes(&removed), ["15550000002 ok 200"]);
    refused(&stage, "second", &link, "NOT_ALLOWED", "(405)").await;
    stage.result("default", "RevokeInviteCode", it).await;
    refused(&stage, "third", &link, "ENGINE_REJECTED", "(410)").await;
    let unknown = "https://chat.whatsapp.com/AAAAAAAAAAAAAAAAAAAAAA";
    refused(&stage, "third", unknown, "GROUP_NOT_FOUND", "(406)").await;
    stage.assert_valid();
}

pub(super) async fn with_approval(stage: Stage) {
    let id = stage.group("Approved", &[SECOND]).await;
    let it = json!({ "groupId": id });
    let on = |who: &str| json!({"groupId": id, "participants": [who, ONE, SECOND]});
    if !stage.has_recent_settings {
        return is_too_old(&stage, &it, &on(THIRD)).await;
    }
    let approval = json!({"groupId": id, "newMembersApprovalRequired": true});
    stage
        .result("default", "SetMembershipApproval", approval)
        .await;
    let link = link(&stage, &id).await;
    for _ in 0..2 {
        let joined = join(&stage, "third", &link, &id).await;
        assert_eq!(joined, "pendingApproval", "{:?}", stage.kind);
    }
    assert_eq!(
        stage.refusal("third", "GetGroup", it.clone()).await,
        "GROUP_NOT_FOUND"
    );
    let waiting = stage
        .result("default", "ListJoinRequests", it.clone())
        .await;
    // In groups by lid, GOWS may tell the private id alone.
    let lid = [THIRD_LID];
    let is_told_lid = stage.kind == Kind::Gows && requesters(&waiting) == lid;
    let told = requesters(&waiting) == [THIRD];
    assert!(told || is_told_lid, "{:?} {waiting}", stage.kind);
    assert!(waiting[0]["timestamp"].is_i64(), "{waiting}");

    let rejected = stage
        .result("default", "RejectJoinRequests", on(THIRD))
        .await;
    let wanted = [
        "15550000003 ok 200",
        "01 notMember 404",
        "15550000002 alreadyMember 409",
    ];
    assert_eq!(outcomes(&rejected), wanted, "{:?}", stage.kind);
    let waiting = stage
        .result("default", "ListJoinRequests", it.clone())
        .await;
    assert_eq!(waiting, json!([]), "{:?}", stage.kind);
    let joined = join(&stage, "third", &link, &id).await;
    assert_eq!(joined, "pendingApproval", "{:?}", stage.kind);

    for (name, payload) in [
        ("ListJoinRequests", it.clone()),
        ("ApproveJoinRequests", on(THIRD)),
        ("RejectJoinRequests", on(THIRD)),
    ] {
        let refusal = stage.refusal("second", name, payload).await;
        assert_eq!(refusal, "NOT_ALLOWED", "{:?} {name}", stage.kind);
    }
    let approved = stage
        .result("default", "ApproveJoinRequests", on(THIRD))
        .await;
    assert_eq!(outcomes(&approved), wanted, "{:?}", stage.kind);
    let joined = join(&stage, "third", &link, &id).await;
    assert_eq!(joined, "alreadyMember", "{:?}", stage.kind);

    let wanted = [
        "group.v2.join by CreateGroup".to_owned(),
        "group.join create 15550000001 15550000002 by CreateGroup".to_owned(),
        "group.v2.update newMembersApprovalRequired=true by SetMembershipApproval".to_owned(),
        format!("{REQUEST} created 15550000003"),
        format!("{REQUEST} rejected 15550000003 by RejectJoinRequests"),
        format!("{REQUEST} created 15550000003"),
        format!("{REQUEST} approved 15550000003 by ApproveJoinRequests"),
        "group.join add 15550000003 by ApproveJoinRequests".to_owned(),
        "group.v2.participants join 15550000003:participant by ApproveJoinRequests".to_owned(),
    ];
    let seen = stage.events("default", &id, wanted.len()).await;
    // The sandbox knows the command behind a request; WAHA does not tell another session's.
    let seen: Vec<_> = seen
        .iter()
        .map(|it| it.replace(" by JoinGroup", ""))
        .map(|it| match stage.kind {
            Kind::Gows => it.replace(" 915550000003", " 15550000003"),
            _ => it,
        })
        .collect();
    assert_eq!(seen, wanted, "{:?}", stage.kind);
    stage.assert_valid();
}

fn requesters(waiting: &Value) -> Vec<&str> {
    let waiting = waiting.as_array().unwrap().iter();
    waiting
        .map(|it| it["requesterId"].as_str().unwrap())
        .collect()
}

/// A WAHA that has no requests to join says which has.
async fn is_too_old(stage: &Stage, it: &Value, on: &Value) {
    for (name, payload) in [
        ("ListJoinRequests", it),
        ("ApproveJoinRequests", on),
        ("RejectJoinRequests", on),
    ] {
        let reply = stage.ask("default", name, payload.clone()).await;
        let error = &reply["error"];
        assert_eq!(error["code"], "NOT_SUPPORTED", "{:?} {reply}", stage.kind);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("2026.8.2"), "{message}");
    }
}

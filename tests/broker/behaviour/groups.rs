//! A group's life.

use serde_json::{Value, json};

use super::stage::{Kind, ME, Stage, outcomes};

const ONE: &str = "491700000001@c.us";
const TWO: &str = "491700000002@c.us";
const THREE: &str = "491700000003@c.us";
const NINE: &str = "491700000009@c.us";

/// People and roles in short.
fn people(result: &Value) -> Vec<String> {
    let people = result.as_array().unwrap().iter();
    let short = |it: &Value| {
        format!(
            "{} {}",
            it["id"].as_str().unwrap(),
            it["role"].as_str().unwrap()
        )
    };
    people.map(short).collect()
}

pub(super) async fn lives(stage: Stage) {
    let named = json!([ONE, TWO, "999000000403@c.us", "999000000404@c.us"]);
    let made = stage
        .result(
            "default",
            "CreateGroup",
            json!({"name": "Climbing", "participants": named}),
        )
        .await;
    // NOWEB shows who is in the new group, and not why somebody is not.
    let others = if stage.kind == Kind::Noweb {
        ["999000000403 unknown 400", "999000000404 unknown 400"]
    } else {
        [
            "999000000403 privacyBlocked 403",
            "999000000404 notOnWhatsapp 404",
        ]
    };
    let wanted = [&["01 ok 200", "02 ok 200"][..], &others[..]].concat();
    assert_eq!(outcomes(&made["outcomes"]), wanted, "{made}");
    let invite = &made["outcomes"][2]["invite"]["code"];
    assert_eq!(
        invite.is_string(),
        matches!(stage.kind, Kind::Sandbox | Kind::Gows),
        "{made}"
    );
    let id = made["id"].as_str().unwrap();
    let on = |people: &[&str]| json!({"groupId": id, "participants": people});
    let it = json!({ "groupId": id });

    let group = stage.result("default", "GetGroup", it.clone()).await;
    let mut without = made.clone();
    without.as_object_mut().unwrap().remove("outcomes");
    assert_eq!(group, without);
    assert_eq!(group["subject"], "Climbing");
    assert_eq!(group["owner"], ME);
    assert_eq!(group["size"], 3);
    assert_eq!(group["settings"]["infoAdminOnly"], false);
    assert_eq!(group["settings"]["membersCanAddNewMember"], true);
    assert!(group["createdAt"].is_string(), "{group}");

    changes_people(&stage, on).await;
    changes_settings(&stage, id).await;

    let listed = stage.result("default", "GetParticipants", it.clone()).await;
    let wanted = [
        format!("{ME} superadmin"),
        format!("{ONE} participant"),
        format!("{TWO} participant"),
    ];
    assert_eq!(people(&listed), wanted);
    assert_eq!(
        stage.result("default", "LeaveGroup", it.clone()).await,
        true
    );
    for (name, payload) in [
        ("GetGroup", it.clone()),
        ("GetParticipants", it.clone()),
        ("GetInviteCode", it.clone()),
        ("LeaveGroup", it.clone()),
        ("AddParticipants", on(&[THREE])),
        ("RemoveParticipants", on(&[ONE])),
        ("PromoteAdmin", on(&[ONE])),
        (
            "SetGroupSubject",
            json!({"groupId": id, "subject": "Mine again"}),
        ),
        ("SetInfoAdminOnly", it.clone()),
        ("GetInfoAdminOnly", it.clone()),
        ("GetMessagesAdminOnly", it.clone()),
        (
            "SetMessagesAdminOnly",
            json!({"groupId": id, "adminsOnly": true}),
        ),
    ] {
        assert_eq!(
            stage.refusal("default", name, payload).await,
            "NOT_A_MEMBER",
            "{name}"
        );
    }
    assert_eq!(
        stage.result("default", "DeleteGroup", it.clone()).await,
        true
    );
    assert_eq!(
        stage.result("default", "ListGroups", json!({})).await,
        json!([])
    );
    assert_events(&stage, id).await;
    stage.assert_valid();
}

async fn changes_people(stage: &Stage, on: impl Fn(&[&str]) -> Value) {
    let ask = async |name: &str, people: &[&str]| {
        outcomes(&stage.result("default", name, on(people)).await)
    };
    assert_eq!(
        ask("PromoteAdmin", &[ONE, NINE]).await,
        ["01 ok 200", "09 notMember 404"]
    );
    assert_eq!(ask("PromoteAdmin", &[ONE]).await, ["01 alreadyAdmin 200"]);
    assert_eq!(
        ask("DemoteAdmin", &[ONE, TWO]).await,
        ["01 ok 200", "02 notAdmin 200"]
    );
    let special = ["401", "403", "404", "408", "419", "421"];
    let special = special.map(|code| format!("999000000{code}@c.us"));
    let mut named = vec![TWO, THREE];
    named.extend(special.iter().map(String::as_str));
    let wanted = [
        "02 alreadyMember 409",
        "03 ok 200",
        "999000000401 notAllowed 401",
        "999000000403 privacyBlocked 403",
        "999000000404 notOnWhatsapp 404",
        "999000000408 recentlyLeft 408",
        "999000000419 groupFull 419",
        "999000000421 pendingApproval 421",
    ];
    let added = stage.result("default", "AddParticipants", on(&named)).await;
    assert_eq!(outcomes(&added), wanted);
    // WEBJS has sent the invite itself, and does not tell its code.
    let invite = &added[3]["invite"]["code"];
    assert_eq!(invite.is_string(), stage.kind != Kind::Webjs, "{added}");
    assert_eq!(
        ask("RemoveParticipants", &[THREE, NINE]).await,
        ["03 ok 200", "09 notMember 404"]
    );
}

async fn changes_settings(stage: &Stage, id: &str) {
    let it = json!({ "groupId": id });
    let subject = json!({"groupId": id, "subject": "Bouldering"});
    assert_eq!(
        stage.result("default", "SetGroupSubject", subject).await,
        true
    );
    let description = json!({"groupId": id, "description": "Two\nlines"});
    assert_eq!(
        stage
            .result("default", "SetGroupDescription", description)
            .await,
        true
    );
    assert_eq!(
        stage
            .result("default", "SetInfoAdminOnly", it.clone())
            .await,
        true
    );
    let setting = stage
        .result("default", "GetInfoAdminOnly", it.clone())
        .await;
    assert_eq!(setting, json!({"adminsOnly": true}));
    let group = stage.result("default", "GetGroup", it.clone()).await;
    assert_eq!(group["subject"], "Bouldering");
    assert_eq!(group["description"], "Two\nlines");
    assert_eq!(group["settings"]["infoAdminOnly"], true);
    for (setting, field, value, shown) in SETTINGS {
        changes_setting(stage, id, (setting, field, value, shown)).await;
    }
    let payload = json!({"groupId": id, "seconds": 604_800});
    let set = "SetDisappearingMessages";
    if stage.kind == Kind::Sandbox {
        assert_eq!(stage.result("default", set, payload).await, true);
        let group = stage.result("default", "GetGroup", it.clone()).await;
        assert_eq!(group["settings"]["disappearingSeconds"], 604_800);
    } else {
        let reply = stage.ask("default", set, payload).await;
        assert_unsupported(&reply, "only the sandbox has it");
    }
    let first = stage.result("default", "GetInviteCode", it.clone()).await;
    let second = stage
        .result("default", "RevokeInviteCode", it.clone())
        .await;
    let third = stage.result("default", "GetInviteCode", it).await;
    assert_ne!(first, second);
    assert_eq!(second, third);
    let code = second["inviteCode"].as_str().unwrap();
    assert_eq!(
        second["inviteUrl"],
        format!("https://chat.whatsapp.com/{code}")
    );
}

/// The settings beside info-admin-only: the command's name, its field, the value that is not a new
/// group's, and the field of the group's settings.
pub(super) const SETTINGS: [(&str, &str, bool, &str); 4] = [
    ("MessagesAdminOnly", "adminsOnly", true, "messagesAdminOnly"),
    (
        "MemberAddMode",
        "membersCanAddNewMember",
        false,
        "membersCanAddNewMember",
    ),
    (
        "MembershipApproval",
        "newMembersApprovalRequired",
        true,
        "newMembersApprovalRequired",
    ),
    (
        "MemberShareHistory",
        "membersCanShareHistory",
        false,
        "membersCanShareHistory",
    ),
];

/// Whether the stage's engine has a setting.
pub(super) fn has(stage: &Stage, setting: &str) -> bool {
    setting == "MessagesAdminOnly" || stage.has_recent_settings
}

async fn changes_setting(
    stage: &Stage,
    id: &str,
    (setting, field, value, shown): (&str, &str, bool, &str),
) {
    let it = json!({ "groupId": id });
    let (get, set) = (format!("Get{setting}"), format!("Set{setting}"));
    let payload = json!({"groupId": id, field: value});
    if !has(stage, setting) {
        for (name, payload) in [(&get, it), (&set, payload)] {
            let reply = stage.ask("default", name, payload).await;
            assert_unsupported(&reply, &format!("{name} since 2026."));
        }
        return;
    }
    let read = stage.result("default", &get, it.clone()).await;
    assert_eq!(read, json!({field: !value}), "{:?}", stage.kind);
    assert_eq!(stage.result("default", &set, payload).await, true);
    let read = stage.result("default", &get, it.clone()).await;
    assert_eq!(read, json!({field: value}), "{:?}", stage.kind);
    let group = stage.result("default", "GetGroup", it).await;
    // NOWEB and WEBJS answer who may share the history, and do not show it in the group.
    if setting != "MemberShareHistory" || matches!(stage.kind, Kind::Sandbox | Kind::Gows) {
        assert_eq!(group["settings"][shown], value, "{:?} {group}", stage.kind);
    } else {
        assert!(group["settings"].get(shown).is_none(), "{group}");
    }
}

fn assert_unsupported(reply: &Value, why: &str) {
    assert_eq!(reply["error"]["code"], "NOT_SUPPORTED", "{reply}");
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains(why), "{message}");
}

async fn assert_events(stage: &Stage, id: &str) {
    let mut wanted = vec![
        "group.v2.join by CreateGroup",
        "group.join create 15550000001 01 02 by CreateGroup",
        "group.v2.participants promote 01:admin by PromoteAdmin",
        "group.v2.participants demote 01:participant by DemoteAdmin",
        "group.join add 03 by AddParticipants",
        "group.v2.participants join 03:participant by AddParticipants",
        "group.left remove 03 by RemoveParticipants",
        "group.v2.participants leave 03: by RemoveParticipants",
        r#"group.v2.update subject="Bouldering" by SetGroupSubject"#,
        r#"group.v2.update description="Two\nlines" by SetGroupDescription"#,
        "group.v2.update infoAdminOnly=true by SetInfoAdminOnly",
    ];
    let changed = SETTINGS
        .iter()
        .filter(|(setting, ..)| has(stage, setting))
        .map(|(setting, _, value, shown)| {
            format!("group.v2.update {shown}={value} by Set{setting}")
        });
    let changed: Vec<_> = changed.collect();
    wanted.extend(changed.iter().map(String::as_str));
    if stage.kind == Kind::Sandbox {
        wanted.push("group.v2.update disappearingSeconds=604800 by SetDisappearingMessages");
    }
    wanted.extend([
        "group.v2.update invite by RevokeInviteCode",
        "group.v2.leave by LeaveGroup",
        "group.left leave 15550000001 by LeaveGroup",
    ]);
    assert_eq!(
        stage.events("default", id, wanted.len()).await,
        wanted,
        "{:?}",
        stage.kind
    );
}

pub(super) async fn is_deleted_for_everyone(stage: Stage) {
    let id = stage.group("Short-lived", &[ONE, TWO]).await;
    let payload = json!({"groupId": id, "forEveryone": true});
    assert_eq!(stage.result("default", "DeleteGroup", payload).await, true);
    assert_eq!(
        stage.result("default", "ListGroups", json!({})).await,
        json!([])
    );
    let wanted = [
        "group.v2.join by CreateGroup",
        "group.join create 15550000001 01 02 by CreateGroup",
        "group.left remove 01 02 by DeleteGroup",
        "group.v2.participants leave 01: 02: by DeleteGroup",
        "group.v2.leave by DeleteGroup",
        "group.left leave 15550000001 by DeleteGroup",
    ];
    assert_eq!(
        stage.events("default", &id, wanted.len()).await,
        wanted,
        "{:?}",
        stage.kind
    );
    stage.assert_valid();
}

pub(super) async fn are_listed(stage: Stage) {
    let names = ["b", "a", "c"];
    let mut ids = Vec::new();
    for name in names {
        ids.push(stage.group(name, &[ONE]).await);
    }
    ids.sort();
    let field = |listed: &Value, name: &str| -> Vec<String> {
        let listed = listed.as_array().unwrap().iter();
        listed
            .map(|it| it[name].as_str().unwrap().to_owned())
            .collect()
    };
    let listed = stage.result("default", "ListGroups", json!({})).await;
    assert_eq!(field(&listed, "id"), ids);
    assert_eq!(listed[0]["participants"].as_array().unwrap().len(), 2);
    let asked = json!({"sortBy": "subject", "sortOrder": "desc", "offset": 1, "limit": 1});
    let listed = stage.result("default", "ListGroups", asked).await;
    assert_eq!(field(&listed, "subject"), ["b"]);
    let count = stage.result("default", "CountGroups", json!({})).await;
    assert_eq!(count, json!({"count": 3}));
    assert_eq!(
        stage.result("default", "RefreshGroups", json!({})).await,
        true
    );
    let asked = json!({"exclude": ["participants"]});
    let listed = stage.result("default", "ListGroups", asked).await;
    assert!(listed[0]["participants"].is_null(), "{listed}");
    assert_eq!(listed[0]["size"], 2);
    assert_eq!(
        stage.result("third", "ListGroups", json!({})).await,
        json!([])
    );
    let count = stage.result("third", "CountGroups", json!({})).await;
    assert_eq!(count, json!({"count": 0}));
    stage.assert_valid();
}

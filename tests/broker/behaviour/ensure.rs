//! A group as it shall be.

use serde_json::{Value, json};

use super::stage::{Kind, SECOND, Stage, outcomes};

const ONE: &str = "491700000001@c.us";
const TWO: &str = "491700000002@c.us";
const THREE: &str = "491700000003@c.us";
const PRIVATE: &str = "999000000403@c.us";

/// The commands that were needed.
fn changes(ensured: &Value) -> Vec<&str> {
    let changes = ensured["changes"].as_array().unwrap().iter();
    changes.map(|it| it["type"].as_str().unwrap()).collect()
}

/// The people of a group that are no sessions, in short.
fn others(ensured: &Value) -> Vec<String> {
    let members = ensured["group"]["participants"].as_array().unwrap().iter();
    let mut others: Vec<_> = members
        .filter_map(|it| {
            let number = it["id"].as_str()?.strip_prefix("4917000000")?;
            let number = number.strip_suffix("@c.us")?;
            Some(format!("{number} {}", it["role"].as_str()?))
        })
        .collect();
    others.sort();
    others
}

pub(super) async fn a_group_becomes_as_wanted(stage: Stage) {
    let mut wish = json!({
        "name": "Night shift",
        "description": "Who is on duty",
        "participants": [{"id": ONE, "role": "admin"}, TWO, PRIVATE, SECOND],
        "plan": true,
    });
    let plan = stage.result("default", "EnsureGroup", wish.clone()).await;
    let steps = ["CreateGroup", "SetGroupDescription", "PromoteAdmin"];
    assert_eq!(changes(&plan), steps);
    assert_eq!(
        (&plan["groupId"], &plan["group"]),
        (&Value::Null, &Value::Null)
    );
    wish["plan"] = json!(false);
    let made = stage.result("default", "EnsureGroup", wish.clone()).await;
    // NOWEB's creation does not say why it did not add somebody; adding them says it.
    let mut done = changes(&made);
    done.retain(|it| *it != "AddParticipants" || stage.kind != Kind::Noweb);
    assert_eq!(done, steps);
    assert_eq!(made["created"], true);
    assert_eq!(others(&made), ["01 admin", "02 participant"], "{made}");
    let refused = outcomes(&made["outcomes"]);
    assert!(
        refused.contains(&"999000000403 privacyBlocked 403".to_owned()),
        "{made}"
    );
    assert_eq!(made["group"]["description"], "Who is on duty");
    let id = made["groupId"].as_str().unwrap().to_owned();

    // Nothing is left to do.
    wish["groupId"] = json!(id);
    wish["participants"].as_array_mut().unwrap().remove(2);
    let again = stage.result("default", "EnsureGroup", wish.clone()).await;
    assert_eq!(
        (changes(&again), &again["created"]),
        (vec![], &json!(false)),
        "{again}"
    );
    assert_eq!(again["outcomes"], json!([]));

    // Somebody else changes the group, and it becomes as wanted again.
    let on = |people: &[&str]| json!({"groupId": id, "participants": people});
    stage
        .result("default", "AddParticipants", on(&[THREE]))
        .await;
    stage.result("default", "DemoteAdmin", on(&[ONE])).await;
    wish["exact"] = json!(true);
    let mended = stage.result("default", "EnsureGroup", wish.clone()).await;
    assert_eq!(
        changes(&mended),
        ["PromoteAdmin", "RemoveParticipants"],
        "{mended}"
    );
    assert_eq!(others(&mended), ["01 admin", "02 participant"]);

    // A file that was cut off does not empty the group.
    wish["participants"] = json!([]);
    let refusal = stage.refusal("default", "EnsureGroup", wish.clone()).await;
    assert_eq!(refusal, "NOT_ALLOWED");
    wish["confirmRemove"] = json!(true);
    let emptied = stage.result("default", "EnsureGroup", wish).await;
    assert_eq!(others(&emptied), Vec::<String>::new(), "{emptied}");
    assert_eq!(emptied["group"]["size"], 1);
    stage.assert_valid();
}

pub(super) async fn what_the_account_may_not_do_is_said(stage: Stage) {
    let id = stage.group("Rights", &[ONE, SECOND]).await;
    let it = json!({ "groupId": id });
    stage.result("default", "SetInfoAdminOnly", it).await;
    let wish = json!({
        "groupId": id,
        "name": "Mine",
        "participants": [{"id": ONE, "role": "admin"}],
    });
    let tried = stage.result("second", "EnsureGroup", wish).await;
    assert_eq!(
        changes(&tried),
        ["SetGroupSubject", "PromoteAdmin"],
        "{tried}"
    );
    assert_eq!(
        tried["changes"][0]["error"]["code"], "NOT_ALLOWED",
        "{tried}"
    );
    assert_eq!(outcomes(&tried["outcomes"]), ["01 notAllowed 403"]);
    assert_eq!(tried["group"]["subject"], "Rights");
    let unknown = json!({"groupId": "120363999999999999@g.us", "name": "Mine"});
    let refusal = stage.refusal("default", "EnsureGroup", unknown).await;
    assert_eq!(refusal, "GROUP_NOT_FOUND");
    stage.assert_valid();
}

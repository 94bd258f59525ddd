//! Private ids: in lists of participants, and the commands about them.

use serde_json::{Value, json};

use super::stage::{Kind, ME, Stage, outcomes};

const ONE: &str = "491700000001@c.us";
const STRANGER: &str = "4915799999999@c.us";

pub(super) async fn are_told_and_looked_up(stage: Stage) {
    let id = stage.group("Lids", &[ONE]).await;
    let it = json!({ "groupId": id });
    let listed = stage.result("default", "GetParticipants", it.clone()).await;
    let group = stage.result("default", "GetGroup", it.clone()).await;
    for people in [&listed, &group["participants"]] {
        let people = people.as_array().unwrap();
        assert_eq!(people.len(), 2);
        for person in people {
            assert_eq!(person["pn"], person["id"], "{:?}: {person}", stage.kind);
            // WEBJS lists one id of each person.
            if stage.kind != Kind::Webjs {
                let lid = person["lid"].as_str().unwrap();
                assert!(lid.ends_with("@lid"), "{person}");
            }
        }
    }
    let ask = async |name: &str, payload: Value| stage.ask("default", name, payload).await;
    let found = ask("GetLidByPhone", json!({"phone": ONE})).await;
    if found["status"] == "error" {
        // Without its store, NOWEB has no directory.
        assert_eq!(stage.kind, Kind::Noweb, "{found}");
        for (name, payload) in [
            ("ListLids", json!({})),
            ("CountLids", json!({})),
            ("GetPhoneByLid", json!({"lid": "9491700000001@lid"})),
            ("GetLidByPhone", json!({"phone": ONE})),
        ] {
            let error = ask(name, payload).await["error"].take();
            assert_eq!(error["code"], "NOT_SUPPORTED", "{name}: {error}");
            assert!(
                error["message"].as_str().unwrap().contains("GOWS"),
                "{error}"
            );
        }
        return;
    }
    let lid = found["result"]["lid"].as_str().unwrap().to_owned();
    let both = json!({"lid": lid, "pn": ONE});
    assert_eq!(found["result"], both);
    let digits = lid.split('@').next().unwrap();
    for spelling in [lid.as_str(), digits] {
        let found = ask("GetPhoneByLid", json!({"lid": spelling})).await;
        assert_eq!(found["result"], both, "{spelling}");
    }
    let listed = ask("ListLids", json!({})).await["result"].take();
    let listed = listed.as_array().unwrap();
    assert!(listed.contains(&both), "{listed:?}");
    let count = ask("CountLids", json!({})).await["result"]["count"].take();
    assert_eq!(count, listed.len());
    let page = ask("ListLids", json!({"limit": 1, "offset": 1})).await["result"].take();
    assert_eq!(page, json!([listed[1]]));

    let nobody = ask("GetLidByPhone", json!({"phone": STRANGER})).await;
    assert_eq!(nobody["result"], json!({"lid": null, "pn": STRANGER}));
    let nobody = ask("GetPhoneByLid", json!({"lid": "123123@lid"})).await;
    assert_eq!(nobody["result"], json!({"lid": "123123@lid", "pn": null}));

    // Somebody is the same person by either id, and the outcome has the one that was named.
    let on = json!({"groupId": id, "participants": [lid]});
    let added = stage.result("default", "AddParticipants", on.clone()).await;
    assert_eq!(outcomes(&added), [format!("{digits} alreadyMember 409")]);
    let promoted = stage.result("default", "PromoteAdmin", on).await;
    assert_eq!(outcomes(&promoted), [format!("{digits} ok 200")]);
    let listed = stage.result("default", "GetParticipants", it).await;
    let roles: Vec<_> = listed.as_array().unwrap().iter().collect();
    assert_eq!(roles.len(), 2);
    assert_eq!(
        (&roles[0]["id"], &roles[0]["role"]),
        (&json!(ME), &json!("superadmin"))
    );
    assert_eq!(
        (&roles[1]["id"], &roles[1]["role"]),
        (&json!(ONE), &json!("admin"))
    );
    stage.assert_valid();
}

//! One person has several names: two forms of a number, a phone and a private id. They are answered under
//! the id that was asked for, and published under one.

use std::collections::BTreeSet;
use std::time::Duration;

use groupmq_test_support::waha::{Fault, Quirks};
use serde_json::{Value, json};

use super::absence::looks;
use crate::behaviour::stage::{Kind, Stage, of_group, outcomes};

const ONE: &str = "491700000001@c.us";
const TWO: &str = "491700000002@c.us";
const ME: &str = "15550000001@c.us";
const ENGINES: [Kind; 3] = [Kind::Webjs, Kind::Noweb, Kind::Gows];

/// The number that is asked for, and the one by which `WhatsApp` knows the account.
const FORMS: [(&str, &str); 3] = [
    ("5511987654321", "551187654321"),
    ("525512345678", "5215512345678"),
    ("541123456789", "5491123456789"),
];

/// Engines whose groups are addressed by private ids.
fn private() -> impl Iterator<Item = (Kind, Quirks)> {
    let lids = Quirks {
        lids: true,
        ..Quirks::default()
    };
    let store = Quirks {
        store: true,
        ..lids
    };
    let all = [
        (Kind::Webjs, lids),
        (Kind::Noweb, lids),
        (Kind::Noweb, store),
        (Kind::Gows, lids),
    ];
    let secret = |(kind, quirks)| {
        let secret_phones = Quirks {
            secret_phones: true,
            ..quirks
        };
        [(kind, quirks), (kind, secret_phones)]
    };
    all.into_iter().flat_map(secret)
}

async fn set_up(kind: Kind, quirks: Quirks) -> Stage {
    Stage::set_up(kind, quirks, |options| options).await
}

/// All events of a group, once there are so many, in short and as they are.
async fn events(stage: &Stage, id: &str, count: usize) -> (Vec<String>, Vec<Value>) {
    let short = stage.events("default", id, count).await;
    let whole = of_group(stage.scene.producer.seen(), "default", id);
    (short, whole)
}

#[tokio::test]
async fn a_number_with_two_forms_is_one_person_under_either() {
    for kind in ENGINES {
        let stage = Stage::new(kind).await;
        for (asked, own) in FORMS {
            stage.waha().own_form(asked, own);
        }
        let id = stage.group("Forms", &[ONE]).await;
        let asked = FORMS.map(|(asked, _)| asked);
        let own = FORMS.map(|(_, own)| own);
        for (name, by, promise) in [
            ("AddParticipants", asked, "ok 200"),
            ("PromoteAdmin", own, "ok 200"),
            ("PromoteAdmin", asked, "alreadyAdmin 200"),
            ("DemoteAdmin", asked, "ok 200"),
            ("RemoveParticipants", own, "ok 200"),
        ] {
            let people = by.map(|number| format!("{number}@c.us"));
            let named = json!({"groupId": id, "participants": people});
            let told = stage.result("default", name, named).await;
            let wanted = by.map(|number| format!("{number} {promise}"));
            assert_eq!(outcomes(&told), wanted, "{kind:?} {name}");
        }
        stage.waha().by_hand(&id, |group| group.subject("After it"));
        let (_, all) = events(&stage, &id, 9).await;
        let what: Vec<_> = all[2..].iter().map(causes).collect();
        let wanted = [
            "group.join AddParticipants 3",
            "group.v2.participants AddParticipants 3",
            "group.v2.participants PromoteAdmin 3",
            "group.v2.participants DemoteAdmin 3",
            "group.left RemoveParticipants 3",
            "group.v2.participants RemoveParticipants 3",
            "group.v2.update  0",
        ];
        assert_eq!(what, wanted, "{kind:?}: {all:#?}");
        // Each of them by one id in all events, whichever it is.
        let ids: BTreeSet<_> = all[2..].iter().flat_map(people).collect();
        assert_eq!(ids.len(), 3, "{kind:?}: {ids:?}");
    }
}

/// An event's name, the command that caused it, and how many people it names.
fn causes(event: &Value) -> String {
    let command = event["payload"]["commandId"].as_str().unwrap_or_default();
    let command = command.split('-').next().unwrap_or_default();
    let name = event["event"].as_str().unwrap();
    format!("{name} {command} {}", people(event).len())
}

/// The people whom an event names.
fn people(event: &Value) -> Vec<String> {
    let payload = &event["payload"];
    let ids = payload["recipientIds"].as_array().into_iter().flatten();
    let members = payload["participants"].as_array().into_iter().flatten();
    let ids = ids.chain(members.map(|it| &it["id"]));
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_told_by_phone_and_by_private_id_is_one_event_with_its_command() {
    for (kind, quirks) in private() {
        let stage = set_up(kind, quirks).await;
        let id = stage.group("Twice", &[ONE]).await;
        let (mut wanted, _) = events(&stage, &id, 2).await;
        for (name, what) in [
            (
                "AddParticipants",
                &[
                    "group.join add 02",
                    "group.v2.participants join 02:participant",
                ][..],
            ),
            ("PromoteAdmin", &["group.v2.participants promote 02:admin"]),
            (
                "DemoteAdmin",
                &["group.v2.participants demote 02:participant"],
            ),
            (
                "RemoveParticipants",
                &["group.left remove 02", "group.v2.participants leave 02:"],
            ),
        ] {
            // At first WAHA tells after the answer, then before it.
            for is_late in [true, false] {
                let (number, id_asked) = if is_late {
                    ("02", TWO)
                } else {
                    ("03", "491700000003@c.us")
                };
                if is_late {
                    stage.waha().hold_posts();
                } else {
                    stage
                        .waha()
                        .pace(Duration::ZERO, Duration::from_millis(200));
                }
                let named = json!({"groupId": id, "participants": [id_asked]});
                let told = stage.result("default", name, named).await;
                assert_eq!(
                    outcomes(&told),
                    [format!("{number} ok 200")],
                    "{kind:?} {quirks:?} {name}"
                );
                if is_late {
                    let taken = stage.waha().release_posts(|_| ()).await.unwrap();
                    assert!(taken.iter().all(|status| *status == 200), "{taken:?}");
                }
                stage.waha().pace(Duration::ZERO, Duration::ZERO);
                let what = what.iter().map(|it| it.replace("02", number));
                wanted.extend(what.map(|it| format!("{it} by {name}")));
                let (seen, _) = events(&stage, &id, wanted.len()).await;
                assert_eq!(seen, wanted, "{kind:?} {quirks:?}");
            }
        }
        stage.waha().by_hand(&id, |group| group.subject("After it"));
        wanted.push(r#"group.v2.update subject="After it""#.to_owned());
        let (seen, all) = events(&stage, &id, wanted.len()).await;
        assert_eq!(seen, wanted, "{kind:?} {quirks:?}");
        let by_command = all
            .iter()
            .filter(|it| it["payload"]["commandId"].is_string());
        for event in by_command {
            assert_eq!(event["payload"]["author"], ME, "{kind:?}: {event}");
        }
    }
}

#[tokio::test]
async fn who_does_something_by_a_private_id_is_named_by_phone() {
    // Of NOWEB, a new group's answer may have private ids alone, and people keep the id of the first event.
    let tells = |(kind, quirks): &(Kind, Quirks)| *kind != Kind::Noweb || !quirks.secret_phones;
    for (kind, quirks) in private().filter(tells) {
        let stage = set_up(kind, quirks).await;
        let id = stage.group("Theirs", &[ONE, TWO]).await;
        let (mut wanted, _) = events(&stage, &id, 2).await;
        stage
            .waha()
            .by_hand(&id, |group| group.promote("491700000001"));
        wanted.push("group.v2.participants promote 01:admin".to_owned());
        let (seen, _) = events(&stage, &id, wanted.len()).await;
        assert_eq!(seen, wanted, "{kind:?} {quirks:?}");
        stage.waha().by_hand(&id, |group| {
            group.by("491700000001");
            group.promote("491700000002");
        });
        wanted.push("group.v2.participants promote 02:admin".to_owned());
        let (seen, _) = events(&stage, &id, wanted.len()).await;
        assert_eq!(seen, wanted, "{kind:?} {quirks:?}");
        stage.waha().by_hand(&id, |group| {
            group.by("491700000001");
            group.remove(&["491700000002"]);
        });
        let went = ["group.left remove 02", "group.v2.participants leave 02:"];
        wanted.extend(went.map(str::to_owned));
        let (seen, all) = events(&stage, &id, wanted.len()).await;
        assert_eq!(seen, wanted, "{kind:?} {quirks:?}");
        for event in &all[3..] {
            assert_eq!(event["payload"]["author"], ONE, "{kind:?}: {event}");
        }
    }
}

#[tokio::test]
async fn people_of_a_new_group_who_were_asked_for_by_private_ids_are_named_by_phone() {
    // Without its store, NOWEB has no directory.
    let can_tell = |(kind, quirks): &(Kind, Quirks)| {
        *kind != Kind::Noweb || quirks.store || !quirks.secret_phones
    };
    for (kind, quirks) in private().filter(can_tell) {
        let stage = set_up(kind, quirks).await;
        let asked = ["9491700000001@lid", "9491700000002@lid"];
        let payload = json!({"name": "By private ids", "participants": asked});
        let made = stage.result("default", "CreateGroup", payload).await;
        let wanted = BTreeSet::from([ME, ONE, TWO]);
        assert_eq!(ids(&made["participants"]), wanted, "{kind:?} {quirks:?}");
        let id = made["id"].as_str().unwrap();
        let (_, all) = events(&stage, id, 2).await;
        let joined = &all[0]["payload"]["group"]["participants"];
        assert_eq!(ids(joined), wanted, "{kind:?} {quirks:?}");
        let told: BTreeSet<_> = people(&all[1]).into_iter().collect();
        assert_eq!(told, wanted.iter().map(|it| (*it).to_owned()).collect());
    }
}

#[tokio::test]
async fn a_creation_is_recognised_by_its_people_under_other_ids() {
    for (kind, quirks) in private() {
        let stage = Stage::set_up(kind, quirks, |options| {
            options
                .set("engine.waha.timeout", "400ms")
                .set("engine.waha.settle", "1s")
        })
        .await;
        for (asked, own) in FORMS {
            stage.waha().own_form(asked, own);
        }
        let late = Fault::DoneAnsweredLate(Duration::from_secs(1));
        stage.waha().fail("POST groups", late);
        let asked = FORMS.map(|(asked, _)| format!("{asked}@c.us"));
        let payload = json!({"name": "Other ids", "participants": asked});
        let made = stage.result("default", "CreateGroup", payload).await;
        let wanted = FORMS.map(|(asked, _)| format!("{asked} ok 200"));
        assert_eq!(outcomes(&made["outcomes"]), wanted, "{kind:?} {quirks:?}");
        let groups = stage.waha().groups();
        assert_eq!(groups.len(), 1, "{kind:?} {quirks:?}");
        let (_, all) = events(&stage, &groups[0].id, 2).await;
        let command = &all[0]["payload"]["commandId"];
        assert_eq!(command, "CreateGroup-0", "{kind:?} {quirks:?}");
    }
}

#[tokio::test]
async fn nobody_is_said_to_be_no_member_before_waha_was_asked_where_people_are_private() {
    // NOWEB without its store, which has no directory, and cannot list the people either.
    let quirks = Quirks {
        lids: true,
        secret_phones: true,
        ..Quirks::default()
    };
    for (name, path) in [
        ("PromoteAdmin", "/admin/promote"),
        ("RemoveParticipants", "/participants/remove"),
    ] {
        let stage = set_up(Kind::Noweb, quirks).await;
        let id = stage.group("Private", &[ONE]).await;
        let broken = Fault::Answer(500, "{}".to_owned());
        stage.waha().fail_always("GET participants/v2", broken);
        stage
            .waha()
            .by_hand(&id, |group| group.add(&["491700000002"]));
        let absent = "491700000009@c.us";
        let named = json!({"groupId": id, "participants": [TWO, absent]});
        let told = stage.result("default", name, named).await;
        let wanted = ["02 ok 200", "09 notMember 404"];
        assert_eq!(outcomes(&told), wanted, "{name}");
        let asked = stage.waha().asked();
        let asked = asked.iter().rfind(|it| it.path.ends_with(path));
        let asked = asked.unwrap_or_else(|| panic!("{name}: WAHA was not asked"));
        assert!(asked.body.to_string().contains(absent), "{name}");
    }
}

#[tokio::test]
async fn the_people_of_a_large_group_are_named_by_phone() {
    let quirks = Quirks {
        lids: true,
        secret_phones: true,
        ..Quirks::default()
    };
    let stage = Stage::set_up(Kind::Gows, quirks, |options| {
        options.set("engine.waha.reconcile.interval", "1s")
    })
    .await;
    // A group from before the first look at all groups is no news.
    let first = stage.group("First", &[ONE]).await;
    events(&stage, &first, 2).await;
    looks(&stage, 2).await;
    stage.waha().set(Quirks {
        deaf: true,
        ..quirks
    });
    // On one page of `/lids`, and on several.
    for count in [100, 2_100] {
        let phones: Vec<_> = (0..count).map(|n| format!("49170{n:07}")).collect();
        let mut people: Vec<_> = phones.iter().map(String::as_str).collect();
        people.push("15550000001");
        let id = stage
            .waha()
            .created_by_hand("491700000000", "Large", &people);
        let (_, all) = events(&stage, &id, 2).await;
        let wanted: Vec<_> = people.iter().map(|it| format!("{it}@c.us")).collect();
        let wanted: BTreeSet<_> = wanted.iter().map(String::as_str).collect();
        assert_eq!(ids(&all[0]["payload"]["group"]["participants"]), wanted);
        let asked = json!({ "groupId": id });
        let answered = stage.result("default", "GetParticipants", asked).await;
        assert_eq!(ids(&answered), wanted);
    }
    let asked = stage.waha().asked();
    let pages = asked.iter().filter(|it| it.path.contains("/lids?"));
    let pages = pages.filter(|it| it.path.contains("offset=2000"));
    assert!(pages.count() > 0, "the third page was asked for");
}

fn ids(people: &Value) -> BTreeSet<&str> {
    let people = people.as_array().into_iter().flatten();
    people.map(|it| it["id"].as_str().unwrap()).collect()
}

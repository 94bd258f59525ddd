//! The webhooks of a real WAHA 2026.2.1, posted to a running worker.

use std::collections::BTreeMap;

use groupmq_test_support::producer::Seen;
use groupmq_test_support::waha::events::{post, signature};
use groupmq_test_support::waha::{Quirks, now_ms};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use crate::behaviour::stage::{HMAC_KEY, Kind, Stage, of_group, short};
use crate::scene::PATIENCE;

const NOWEB: &str = include_str!("../../support/data/waha-2026.2.1/noweb-lid/webhooks.json");
const GOWS: &str = include_str!("../../support/data/waha-2026.2.1/gows-lid/webhooks.json");

/// The group that others made and the account was in.
const THEIRS: &str = "120363000000000777@g.us";

/// A capture's webhooks about groups, moved to now.
fn webhooks(capture: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(capture).unwrap();
    let bodies = all.into_iter().map(|mut it| it["body"].take());
    let bodies = bodies.filter(|it| it["event"] != "session.status");
    let mut bodies: Vec<_> = bodies.collect();
    let last = bodies.iter().map(|it| it["timestamp"].as_i64().unwrap());
    let moved = now_ms() - last.max().unwrap();
    for body in &mut bodies {
        for place in ["/timestamp", "/payload/timestamp"] {
            let at = body.pointer_mut(place).unwrap();
            *at = json!(at.as_i64().unwrap() + moved);
        }
    }
    bodies
}

/// Posts webhooks one after the other, and waits for the events of the group that others made.
async fn events(kind: Kind, webhooks: &[Value], last: &str) -> Vec<Value> {
    let stage = Stage::with(kind, |options| {
        options.set("engine.waha.reconcile.interval", "0s")
    })
    .await;
    stage.waha().set(Quirks {
        deaf: true,
        ..Quirks::default()
    });
    let host = stage.scene.worker.health().to_string();
    for body in webhooks {
        let body = body.to_string();
        let signature = signature(HMAC_KEY, &body);
        let path = "/engines/waha/events";
        let status = post(&host, path, &signature, body.as_bytes()).await;
        assert_eq!(status.unwrap(), 200, "{body}");
    }
    // Whatever waits for a look is told once the group is known, which is before this.
    let done = |seen: &Seen| {
        let events = of_group(seen, "default", THEIRS);
        let is_last = events.last().is_some_and(|it| short(it).starts_with(last));
        is_last.then_some(events)
    };
    let events = stage.scene.producer.until(PATIENCE, done).await;
    events.unwrap_or_else(|_| of_group(stage.scene.producer.seen(), "default", THEIRS))
}

/// What others did in the group, as the causes of the capture say it.
const DONE: [&str; 20] = [
    "group.v2.join",
    "group.join add 15550000001",
    "group.join invite 15550000009",
    "group.v2.participants join 15550000009:participant",
    "group.v2.participants promote 15550000007:admin",
    "group.v2.participants demote 15550000007:participant",
    "group.left leave 15550000009",
    "group.v2.participants leave 15550000009:",
    r#"group.v2.update subject="Theirs, renamed""#,
    r#"group.v2.update description="About us""#,
    "group.v2.update messagesAdminOnly=true",
    "group.v2.update messagesAdminOnly=false",
    "group.v2.update newMembersApprovalRequired=true",
    "group.v2.update invite",
    "group.v2.leave",
    "group.left remove 15550000001",
    "group.v2.join",
    "group.join invite 15550000001",
    "group.v2.leave",
    "group.left leave 15550000001",
];

#[tokio::test]
async fn the_webhooks_of_a_real_waha_become_what_their_causes_say() {
    for (kind, capture) in [(Kind::Noweb, NOWEB), (Kind::Gows, GOWS)] {
        let events = events(kind, &webhooks(capture), "group.left leave 15550000001").await;
        let numbers = events.iter().map(|it| it["payload"]["sequence"].as_u64());
        let wanted = (1..).map(Some).take(events.len());
        assert!(numbers.eq(wanted), "{events:#?}");
        let events: Vec<_> = events.iter().map(short).collect();
        // NOWEB tells of the lock, whose events are in no other capture, and of people by lid alone.
        let is_common = |it: &&String| !it.contains("infoAdminOnly") && !it.contains("08");
        let common: Vec<_> = events.iter().filter(is_common).collect();
        let common = &common[..DONE.len().min(common.len())];
        assert_eq!(common, DONE, "{kind:?}");
    }
}

#[tokio::test]
async fn webhooks_of_a_real_waha_in_another_order_add_up_to_the_same_people() {
    let people = |events: &[Value]| {
        let mut people: BTreeMap<String, String> = BTreeMap::new();
        for event in events {
            let payload = &event["payload"];
            let mut listed = &payload["participants"];
            match event["event"].as_str().unwrap() {
                "group.v2.join" => listed = &payload["group"]["participants"],
                "group.v2.leave" => people.clear(),
                _ => {}
            }
            for person in listed.as_array().into_iter().flatten() {
                let id = person["id"].as_str().unwrap().to_owned();
                match person["role"].as_str() {
                    Some(role) => people.insert(id, role.to_owned()),
                    None => people.remove(&id),
                };
            }
        }
        people
    };
    // Until the account is out of the group for the first time.
    let mut webhooks = webhooks(NOWEB);
    webhooks.retain(|it| it["payload"]["group"]["id"] == THEIRS);
    let own = "915550000001@lid";
    let out = |it: &Value| it["payload"]["participants"][0]["id"] == own;
    let until = webhooks
        .iter()
        .position(|it| out(it) && it["payload"]["type"] == "leave");
    webhooks.truncate(until.unwrap());
    // The order in which they come; the join is the last one, so that all others wait for it.
    let join = webhooks.remove(0);
    webhooks.shuffle(&mut rand::rngs::StdRng::seed_from_u64(14));
    webhooks.push(join);
    let events = events(Kind::Noweb, &webhooks, "group.v2.update infoAdminOnly=true").await;
    assert_eq!(events[0]["event"], "group.v2.join", "{events:#?}");
    let wanted = [
        ("15550000001@c.us", "participant"),
        ("15550000002@c.us", "superadmin"),
        ("15550000007@c.us", "participant"),
    ];
    let wanted = wanted.map(|(id, role)| (id.to_owned(), role.to_owned()));
    assert_eq!(people(&events), BTreeMap::from(wanted));
}

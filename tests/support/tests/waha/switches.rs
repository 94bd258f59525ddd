//! What can be switched on in the stand-in, and what comes of it.

use std::time::Duration;

use groupmq_test_support::receiver::{Answer, Receiver};
use groupmq_test_support::waha::events::Webhook;
use groupmq_test_support::waha::{Fault, KEY, Personality, Quirks, Waha};
use serde_json::{Value, json};

use crate::ask;

const ONE: &str = "491700000001";
const TWO: &str = "491700000002";

async fn started(personality: Personality, quirks: Quirks) -> Waha {
    let waha = Waha::start(personality).await.unwrap();
    waha.set(quirks);
    waha
}

async fn got(waha: &Waha, path: &str) -> (u16, Value) {
    let (status, _, body) = ask(waha, "GET", path, Some(KEY), "").await;
    (status, body)
}

async fn posted(waha: &Waha, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, body) = ask(waha, "POST", path, Some(KEY), &body.to_string()).await;
    (status, body)
}

fn group(waha: &Waha) -> String {
    waha.created_by_hand("15550000001", "Climbing", &[ONE, TWO])
}

fn named(people: &[&str]) -> Value {
    let people = people.iter().map(|it| json!({"id": format!("{it}@c.us")}));
    json!({"participants": people.collect::<Vec<_>>()})
}

#[tokio::test]
async fn no_groups_are_an_empty_list_and_an_empty_body() {
    let quirks = Quirks {
        no_groups: true,
        ..Quirks::default()
    };
    for personality in [Personality::Noweb, Personality::Gows, Personality::Webjs] {
        let waha = started(personality, quirks).await;
        let id = group(&waha);
        assert_eq!(got(&waha, "/api/default/groups").await, (200, json!([])));
        let one = format!("/api/default/groups/{id}");
        assert_eq!(got(&waha, &one).await, (200, Value::Null));
    }
}

#[tokio::test]
async fn views_lack_people_and_groups_or_are_of_yesterday() {
    let waha = started(Personality::Noweb, Quirks::default()).await;
    let (id, other) = (group(&waha), group(&waha));
    let one = format!("/api/default/groups/{id}");
    waha.hide(&id, &[ONE]);
    let (_, body) = got(&waha, &one).await;
    assert_eq!(body["size"], 3);
    assert_eq!(body["participants"].as_array().unwrap().len(), 2);
    waha.views_are_whole();
    waha.freeze(&id);
    waha.by_hand(&id, |group| group.remove(&[ONE]));
    waha.by_hand(&id, |group| group.add(&["491700000003"]));
    let (_, body) = got(&waha, &one).await;
    let people = body["participants"].to_string();
    assert!(people.contains(ONE) && !people.contains("491700000003"));
    waha.thaw(&id);
    let (_, body) = got(&waha, &one).await;
    let people = body["participants"].to_string();
    assert!(!people.contains(ONE) && people.contains("491700000003"));
    waha.omit(&other);
    let (_, body) = got(&waha, "/api/default/groups").await;
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), [&id]);
}

#[tokio::test]
async fn a_stub_is_a_group_that_gows_has_not_loaded() {
    let waha = started(Personality::Gows, Quirks::default()).await;
    let (id, _) = (group(&waha), group(&waha));
    waha.stub(&id);
    let (_, all) = got(&waha, "/api/default/groups").await;
    assert_eq!(all[0]["Name"], "");
    assert_eq!(all[0]["Participants"], Value::Null);
    assert_eq!(all[0]["ParticipantCount"], 952);
    assert_eq!(all[1]["Name"], "Climbing");
}

#[tokio::test]
async fn people_are_hosted_and_groups_turn_to_lids() {
    let waha = started(Personality::Noweb, Quirks::default()).await;
    let id = group(&waha);
    let people = format!("/api/default/groups/{id}/participants");
    waha.host(ONE);
    let (_, body) = got(&waha, &people).await;
    assert_eq!(body[1]["id"], format!("{ONE}:99@hosted"));
    waha.by_hand(&id, |group| group.addressed_by_lid(true));
    let (_, body) = got(&waha, &people).await;
    assert_eq!(body[1]["id"], format!("9{ONE}@hosted.lid"));
    assert_eq!(body[2]["id"], format!("9{TWO}@lid"));
}

#[tokio::test]
async fn numbers_with_two_forms_are_answered_in_whatsapps_own() {
    let (asked, own) = ("5511987654321", "551187654321");
    let quirks = Quirks {
        store: true,
        ..Quirks::default()
    };
    let waha = started(Personality::Noweb, quirks).await;
    waha.own_form(asked, own);
    let id = group(&waha);
    let add = format!("/api/default/groups/{id}/participants/add");
    let (status, body) = posted(&waha, &add, &named(&[asked])).await;
    assert_eq!(status, 200);
    assert_eq!(body[0]["jid"], format!("{own}@s.whatsapp.net"));
    let (_, again) = posted(&waha, &add, &named(&[own])).await;
    assert_eq!(again[0]["status"], "409");
    let exists = format!("/api/contacts/check-exists?phone={asked}&session=default");
    let wanted = json!({"numberExists": true, "chatId": format!("{own}@c.us")});
    assert_eq!(got(&waha, &exists).await, (200, wanted));
    let lid = format!("/api/default/lids/pn/{asked}%40c.us");
    let wanted = json!({"lid": format!("9{own}@lid"), "pn": format!("{own}@c.us")});
    assert_eq!(got(&waha, &lid).await, (200, wanted));
}

#[tokio::test]
async fn private_ids_come_in_pages_and_not_without_nowebs_store() {
    let waha = started(Personality::Gows, Quirks::default()).await;
    let people: Vec<_> = (0..150).map(|n| format!("4917000001{n:02}")).collect();
    let people: Vec<_> = people.iter().map(String::as_str).collect();
    waha.created_by_hand("15550000001", "Large", &people);
    let (_, first) = got(&waha, "/api/default/lids").await;
    assert_eq!(first.as_array().unwrap().len(), 100);
    let (_, second) = got(&waha, "/api/default/lids?limit=100&offset=100").await;
    assert_eq!(second.as_array().unwrap().len(), 51);
    assert_ne!(first[0], second[0]);
    let count = got(&waha, "/api/default/lids/count").await;
    assert_eq!(count, (200, json!({"count": 151})));
    let waha = started(Personality::Noweb, Quirks::default()).await;
    assert_eq!(got(&waha, "/api/default/lids").await.0, 400);
}

#[tokio::test]
async fn a_creation_fails_with_the_group_made_or_not_for_as_long_as_it_is_said() {
    let waha = started(Personality::Webjs, Quirks::default()).await;
    let body = json!({"name": "Climbing", "participants": []});
    for (made, groups) in [(true, 2), (false, 2)] {
        waha.fail_always("POST groups", Fault::UnknownErrorOnCreate { made });
        for _ in 0..2 {
            let (status, said) = posted(&waha, "/api/default/groups", &body).await;
            assert_eq!(status, 201);
            let words = "CreateGroupError: An unknown error occupied while creating a group";
            assert_eq!(said, words);
        }
        assert_eq!(waha.groups().len(), groups);
        waha.mend();
    }
    let (status, said) = posted(&waha, "/api/default/groups", &body).await;
    assert_eq!((status, said["title"].as_str()), (201, Some("Climbing")));
}

#[tokio::test]
async fn an_answer_comes_late_and_a_server_is_broken() {
    let waha = started(Personality::Noweb, Quirks::default()).await;
    waha.fail(
        "POST groups",
        Fault::DoneAnsweredLate(Duration::from_hours(1)),
    );
    let body = json!({"name": "Climbing", "participants": []});
    let made = async {
        while waha.groups().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = posted(&waha, "/api/default/groups", &body) => panic!("too early: {answer:?}"),
        () = made => {}
    }
    let words = "groupChat.getInviteCode is not a function";
    waha.fail("GET groups", Fault::TypeError(words.to_owned()));
    let (status, body) = got(&waha, "/api/default/groups").await;
    assert_eq!(status, 500);
    assert_eq!(body["exception"]["name"], "TypeError");
    assert_eq!(body["exception"]["message"], words);
}

#[tokio::test]
async fn unknown_sessions_and_paths_are_answered_as_nestjs_does() {
    let waha = started(Personality::Noweb, Quirks::default()).await;
    let (status, body) = got(&waha, "/api/nosuch/groups").await;
    let wanted = json!({"error": "Session \"nosuch\" does not exist", "session": "nosuch"});
    assert_eq!((status, body), (422, wanted));
    let (status, body) = posted(&waha, "/api/api/default/groups", &json!({})).await;
    let message = "Cannot POST /api/api/default/groups";
    let wanted = json!({"message": message, "error": "Not Found", "statusCode": 404});
    assert_eq!((status, body), (404, wanted));
}

#[tokio::test]
async fn posts_are_held_and_released_in_any_order() {
    let waha = started(Personality::Noweb, Quirks::default()).await;
    let receiver = Receiver::start().unwrap();
    receiver.answer("/hook", Answer::status(200));
    waha.hook(Webhook {
        host: receiver.url("").replace("http://", ""),
        path: "/hook".to_owned(),
        key: "a key".to_owned(),
    });
    waha.hold_posts();
    for status in ["STARTING", "WORKING", "FAILED"] {
        waha.status("default", status);
    }
    assert_eq!(receiver.got("/hook").len(), 0);
    let statuses = waha.release_posts(|posts| posts.reverse()).await.unwrap();
    assert_eq!(statuses, [200; 3]);
    let told = receiver.got("/hook").into_iter().map(|it| {
        let body: Value = serde_json::from_slice(&it.body).unwrap();
        body["payload"]["status"].as_str().unwrap().to_owned()
    });
    assert_eq!(told.collect::<Vec<_>>(), ["FAILED", "WORKING", "STARTING"]);
}

#[tokio::test]
async fn the_own_account_may_have_no_lid_and_posts_may_be_repeated() {
    let quirks = Quirks {
        me_without_lid: true,
        repeated_posts: true,
        ..Quirks::default()
    };
    let waha = started(Personality::Noweb, quirks).await;
    waha.hold_posts();
    waha.status("default", "STARTING");
    let posts = waha.held_posts();
    assert_eq!(posts.len(), 2);
    assert_eq!(posts[0], posts[1]);
    let (_, sessions) = got(&waha, "/api/sessions").await;
    for me in [&posts[0]["me"], &sessions[0]["me"]] {
        assert_eq!(me["id"], "15550000001@c.us");
        assert_eq!(me["lid"], Value::Null);
    }
}

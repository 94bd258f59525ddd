//! One delivery: what is sent, and what becomes of it when it is not taken.

use std::collections::BTreeSet;
use std::time::Duration;

use groupmq::contract::WebhookState;
use groupmq::store::deliveries::DeliveryFilter;
use groupmq_test_support::receiver::{Answer, Delivered, End};
use groupmq_test_support::worker::Worker;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene};
use crate::broker::{delete_queue, letters, queue_length};

#[tokio::test]
async fn an_event_is_delivered_as_it_was_published_and_signed() {
    let mut scene = Scene::shared().await;
    let more = json!({
        "hmac": {"key": "my-secret-key"},
        "secrets": ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "customHeaders": [{"name": "X-Tenant", "value": "shop 1"}],
    });
    scene.endpoint("one", "/one", more).await;
    let event = scene.announcer.announce("default", "group.join", 1).await;
    let event = event.unwrap().remove(0);
    let got = scene.receiver.gets("/one", 1).await.unwrap().remove(0);
    assert_eq!(got.body, event.body);
    assert_eq!(got.id(), event.id);
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("x-tenant"), "shop 1");
    assert_eq!(got.header("x-webhook-hmac-algorithm"), "sha512");
    assert_eq!(got.header("x-webhook-hmac").len(), 128);
    assert_eq!(got.header("webhook-signature").split(' ').count(), 2);
    assert!(got.header("user-agent").starts_with("groupmq/"));
    let seconds: i64 = got.header("webhook-timestamp").parse().unwrap();
    let millis: i64 = got.header("x-webhook-timestamp").parse().unwrap();
    assert_eq!(millis / 1000, seconds);
    let request: uuid::Uuid = got.header("x-webhook-request-id").parse().unwrap();

    let logged = logged(&scene, &event.id, 1).await;
    assert_eq!(logged[0]["requestId"], json!(request.to_string()));
    assert_eq!(logged[0]["outcome"], "delivered");
    assert_eq!(logged[0]["status"], 204);
}

#[tokio::test]
async fn a_delivery_that_fails_is_tried_again_with_the_same_id_until_it_is_taken() {
    let mut scene = Scene::shared().await;
    scene.endpoint("flaky", "/flaky", json!({})).await;
    let mut answers = [500, 404, 302].into_iter();
    scene.receiver.rule("/flaky", move |_| {
        Answer::status(answers.next().unwrap_or(200)).with("location", "http://169.254.169.254/")
    });
    let event = scene.announcer.announce("default", "group.left", 1).await;
    let event = event.unwrap().remove(0);
    let got = scene.receiver.gets("/flaky", 4).await.unwrap();
    assert!(
        got.iter()
            .all(|it| it.id() == event.id && it.body == event.body)
    );
    let logged = logged(&scene, &event.id, 4).await;
    let told: Vec<_> = logged
        .iter()
        .map(|it| {
            (
                it["attempt"].clone(),
                it["status"].clone(),
                it["outcome"].clone(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (json!(1), json!(500), json!("failed")),
            (json!(2), json!(404), json!("failed")),
            (json!(3), json!(302), json!("failed")),
            (json!(4), json!(200), json!("delivered")),
        ]
    );
    assert_eq!(letters(&scene).await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_endpoint_whose_answer_breaks_off_behind_its_status_has_said_what_it_means() {
    let mut scene = Scene::shared_with(|options| options.set("delivery.timeout", "2s")).await;
    let rows = [
        ("cut", 200, End::Cut, "delivered"),
        ("drips", 202, End::Drips, "delivered"),
        ("busy", 429, End::Cut, "failed"),
        ("strict", 413, End::Drips, "refused"),
    ];
    for (id, status, end, _) in rows {
        let path = format!("/{id}");
        scene.endpoint(id, &path, json!({})).await;
        let mut first = true;
        scene.receiver.rule(&path, move |_| {
            let is_first = std::mem::take(&mut first);
            let answer = Answer::status(if is_first { status } else { 204 });
            answer.ending(if is_first { end } else { End::Whole })
        });
    }
    let event = scene.announcer.announce("default", "group.join", 1).await;
    let event = event.unwrap().remove(0).id;
    for (id, status, _, outcome) in rows {
        let logged = logged_at(&scene, Some(id), &event, 1).await;
        assert_eq!(logged[0]["outcome"], outcome, "{id}: {logged:?}");
        assert_eq!(logged[0]["status"], status, "{id}: {logged:?}");
        let words = logged[0]["answer"].as_str().unwrap();
        assert!(words.starts_with(&format!("{status}; ")), "{words}");
    }
    scene.receiver.gets("/busy", 2).await.unwrap();
    // Whatever else were tried again would have been by now: a retry comes after a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for path in ["/cut", "/drips", "/strict"] {
        assert_eq!(scene.receiver.got(path).len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_wait_that_the_endpoint_asks_for_is_kept() {
    let mut scene = Scene::shared().await;
    scene.endpoint("busy", "/busy", json!({})).await;
    let mut first = true;
    scene.receiver.rule("/busy", move |_| {
        let answer = Answer::status(if first { 429 } else { 204 });
        first = false;
        answer.with("retry-after", "3")
    });
    scene
        .announcer
        .announce("default", "group.join", 1)
        .await
        .unwrap();
    let got = scene.receiver.gets("/busy", 2).await.unwrap();
    let waited = got[1].at.duration_since(got[0].at);
    assert!(waited >= Duration::from_secs(3), "too early: {waited:?}");
}

/// The letters of two endpoints, by their names.
async fn two_letters(scene: &Scene) -> Vec<Value> {
    let mut kept = Vec::new();
    let begun = std::time::Instant::now();
    while kept.len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{kept:?}");
        kept.extend(letters(scene).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    kept.sort_by_key(|it| it["groupmq-webhook"].to_string());
    kept
}

#[tokio::test]
async fn what_is_refused_for_good_or_too_often_is_kept_with_the_last_answer() {
    let mut scene = Scene::shared().await;
    let own = json!({"retries": {"policy": "constant", "delaySeconds": 1, "attempts": 1}});
    scene.endpoint("strict", "/strict", json!({})).await;
    scene.endpoint("tired", "/tired", own).await;
    scene.receiver.rule("/strict", |_| Answer {
        body: "far too large".to_owned(),
        ..Answer::status(413)
    });
    scene.receiver.answer("/tired", Answer::status(403));
    let event = scene.announcer.announce("default", "group.join", 1).await;
    let event = event.unwrap().remove(0);
    scene.receiver.gets("/tired", 2).await.unwrap();
    let kept = two_letters(&scene).await;
    assert_eq!(kept[0]["groupmq-webhook"], "strict");
    assert_eq!(kept[0]["groupmq-fault-reason"], "413 far too large");
    assert_eq!(kept[0]["groupmq-attempts"], "1");
    assert_eq!(kept[1]["groupmq-webhook"], "tired");
    assert_eq!(kept[1]["groupmq-fault-reason"], "403");
    assert_eq!(kept[1]["groupmq-attempts"], "2");
    for letter in &kept {
        assert_eq!(letter["messageId"], json!(event.id));
        assert_eq!(letter["groupmq-event"], "group.join");
        assert_eq!(letter["body"].as_str().unwrap().as_bytes(), event.body);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_and_collects_nothing_more() {
    let mut scene = Scene::shared().await;
    scene.endpoint("gone", "/gone", json!({})).await;
    let more = json!({"events": ["webhook.*"]});
    scene.endpoint("watch", "/watch", more).await;
    scene.receiver.answer("/gone", Answer::status(410));
    scene
        .announcer
        .announce("default", "group.join", 1)
        .await
        .unwrap();
    let disabled = scene
        .until("gone", |it| {
            it.state == WebhookState::Disabled && it.bound.is_empty()
        })
        .await;
    assert_eq!(disabled.reason.as_deref(), Some("it answered 410"));
    let notice = scene.receiver.gets("/watch", 1).await.unwrap().remove(0);
    let notice: Value = serde_json::from_slice(&notice.body).unwrap();
    assert_eq!(notice["event"], "webhook.disabled");
    assert_eq!(notice["payload"]["webhook"], "gone");

    scene
        .announcer
        .announce("default", "group.join", 5)
        .await
        .unwrap();
    assert_eq!(queue_length(&scene, "webhook.gone").await, 0);
    assert_eq!(scene.receiver.got("/gone").len(), 1);
}

#[tokio::test]
async fn a_fault_of_our_own_way_out_is_charged_to_no_endpoint() {
    // Nobody answers there: a DNS server that is down.
    let scene = Scene::shared_with(|options| {
        options
            .set("egress.dns", "127.0.0.1:9")
            .set("delivery.timeout", "2s")
    });
    let mut scene = scene.await;
    scene
        .set("lost", "http://receiver.example/x", json!({}))
        .await;
    scene.bound("lost").await;
    let events = scene
        .announcer
        .announce("default", "group.join", 8)
        .await
        .unwrap();
    let logged = logged(&scene, &events[0].id, 2).await;
    for attempt in &logged {
        assert_eq!(attempt["outcome"], "own-fault", "{attempt}");
        assert_eq!(attempt["attempt"], 1, "charged: {attempt}");
    }
    let endpoint = scene.endpoints.get("lost").await.unwrap().unwrap();
    assert_eq!(endpoint.breaker.failing_since, None);
    assert_eq!(letters(&scene).await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_our_own_way_out_holds_up_for_too_long_is_given_up() {
    let scene = Scene::shared_with(|options| {
        options
            .set("egress.dns", "127.0.0.1:9")
            .set("delivery.timeout", "2s")
            .set("delivery.max_age", "2s")
    });
    let mut scene = scene.await;
    for (id, ordered) in [("beside", false), ("inline", true)] {
        let more = json!({"ordered": ordered});
        scene.set(id, "http://receiver.example/x", more).await;
        scene.bound(id).await;
    }
    let sent = scene.announcer.announce("default", "group.join", 1).await;
    sent.unwrap();
    let kept = two_letters(&scene).await;
    for (letter, webhook) in kept.iter().zip(["beside", "inline"]) {
        assert_eq!(letter["groupmq-webhook"], webhook);
        assert_eq!(letter["groupmq-attempts"], "0", "charged: {letter}");
        let reason = letter["groupmq-fault-reason"].as_str().unwrap();
        assert!(reason.starts_with("our own way to"), "{reason}");
    }
}

#[tokio::test]
async fn a_private_address_is_refused_unless_it_is_allowed() {
    let scene = Scene::shared_with(|options| options.set("egress.allow", "127.0.0.2/32"));
    let mut scene = scene.await;
    scene.endpoint("inside", "/inside", json!({})).await;
    let event = scene.announcer.announce("default", "group.join", 1).await;
    let logged = logged(&scene, &event.unwrap()[0].id, 1).await;
    assert_eq!(logged[0]["outcome"], "failed");
    let words = logged[0]["answer"].as_str().unwrap();
    assert!(words.contains("egress.allow"), "{words}");
    assert_eq!(scene.receiver.got("/inside").len(), 0);
}

#[tokio::test]
async fn an_ordered_endpoint_gets_one_after_the_other_whatever_fails() {
    let mut scene = Scene::shared().await;
    let more = json!({"ordered": true});
    scene.endpoint("line", "/line", more).await;
    let mut count = 0;
    scene.receiver.rule("/line", move |_| {
        count += 1;
        Answer::status(if count % 3 == 0 { 404 } else { 200 })
    });
    let events = scene
        .announcer
        .announce("default", "group.join", 12)
        .await
        .unwrap();
    scene.receiver.takes("/line", 12, PATIENCE).await.unwrap();
    let got = scene.receiver.got("/line");
    let taken: Vec<_> = got
        .iter()
        .filter(|it| it.status == 200)
        .map(Delivered::id)
        .collect();
    let sent: Vec<_> = events.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(taken, sent);
    assert_eq!(scene.receiver.most_at_once("/line"), 1);
}

#[tokio::test]
async fn a_retry_whose_endpoint_is_gone_becomes_an_orphan_and_stalls_nobody() {
    // Long enough to take the endpoint away while they rest; both rest in the same queue.
    let mut scene = Scene::shared_with(|it| it.set("topology.delay_tiers", "1s,12s")).await;
    let own = json!({"retries": {"policy": "constant", "delaySeconds": 10, "attempts": 5}});
    scene.endpoint("old", "/old", own.clone()).await;
    scene.endpoint("young", "/young", own).await;
    scene.receiver.answer("/old", Answer::status(404));
    let mut first = BTreeSet::new();
    scene.receiver.rule("/young", move |it| {
        let is_first = first.insert(it.id().to_owned());
        Answer::status(if is_first { 404 } else { 204 })
    });
    let sent = scene.announcer.announce("default", "group.join", 60);
    sent.await.unwrap();
    scene.receiver.gets("/old", 60).await.unwrap();
    scene.worker.stop().await.unwrap();
    // Taken away as an operator would who deletes a queue by hand.
    delete_queue(&scene, "webhook.old").await;
    let removing = WebhookState::Removing;
    let endpoints = &scene.endpoints;
    endpoints.set_state("old", removing, None).await.unwrap();
    endpoints.forget("old").await.unwrap();
    scene.worker = Worker::start(&scene.options).await.unwrap();
    scene.receiver.takes("/young", 60, PATIENCE).await.unwrap();
    let begun = std::time::Instant::now();
    while queue_length(&scene, "orphan").await < 60 {
        assert!(begun.elapsed() < PATIENCE, "no orphans");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The attempts at one event, in order, once there are so many.
async fn logged(scene: &Scene, event: &str, count: usize) -> Vec<Value> {
    logged_at(scene, None, event, count).await
}

/// The same, of one endpoint alone where one is named.
async fn logged_at(scene: &Scene, endpoint: Option<&str>, event: &str, count: usize) -> Vec<Value> {
    let begun = std::time::Instant::now();
    loop {
        let wanted = DeliveryFilter {
            endpoint: endpoint.map(str::to_owned),
            event_id: Some(event.to_owned()),
            limit: 100,
            ..DeliveryFilter::default()
        };
        let mut found = scene.store.deliveries().find(wanted).await.unwrap();
        if found.len() >= count {
            found.sort_by_key(|it| it.at);
            let tell = |it: groupmq::store::deliveries::Attempt| {
                json!({
                    "attempt": it.attempt, "status": it.status, "outcome": it.outcome,
                    "answer": it.answer, "requestId": it.request_id,
                })
            };
            return found.into_iter().map(tell).collect();
        }
        assert!(begun.elapsed() < PATIENCE, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

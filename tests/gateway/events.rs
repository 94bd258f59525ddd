//! Events as they happen: Server-Sent Events and WebSocket, filtered, resumed.

use futures_util::StreamExt;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::scene::{PATIENCE, Scene, answer};

/// A stream of Server-Sent Events.
struct Stream {
    response: Response,
    text: String,
}

/// One of them.
#[derive(Debug, PartialEq)]
struct Heard {
    id: String,
    event: String,
    data: Value,
}

impl Stream {
    async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self {
            response,
            text: String::new(),
        };
        // The greeting: from here on nothing is missed.
        stream.frame().await;
        stream
    }

    async fn frame(&mut self) -> String {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                return frame;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk
                .expect("nothing comes")
                .unwrap()
                .expect("the stream ended");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn next(&mut self) -> Heard {
        let mut frame = self.frame().await;
        // A comment keeps the line alive.
        while frame.lines().all(|line| line.starts_with(':')) {
            frame = self.frame().await;
        }
        let field = |name: &str| {
            let mut lines = frame.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        Heard {
            id: field("id:"),
            event: field("event:"),
            data: serde_json::from_str(&field("data:")).unwrap_or(Value::Null),
        }
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn socket(scene: &Scene, path: &str) -> Socket {
    let url = format!("ws://{}{path}", scene.address);
    connect_async(url).await.unwrap().0
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await;
        match message.expect("nothing comes").expect("it ended").unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn server_sent_events_are_filtered_and_resumed() {
    let scene = Scene::new().await;
    let mut all = Stream::open(scene.request("GET", "/api/default/events")).await;
    let some = scene.request(
        "GET",
        "/api/second/events?events=group.leave&events=group.v2.l*",
    );
    let mut some = Stream::open(some).await;
    let id = scene.group(&["15550000002@c.us"]).await;
    let path = format!("/api/second/groups/{id}/leave");
    assert_eq!(scene.send("POST", &path, &Value::Null).await.body, "true");

    let first = all.next().await;
    assert_eq!(first.event, "group.v2.join");
    assert_eq!(
        (&first.data["id"], &first.data["session"]),
        (&json!(first.id), &json!("default"))
    );
    let second = all.next().await;
    assert_eq!(second.event, "group.join");
    let heard = [some.next().await, some.next().await];
    let mut names: Vec<_> = heard.iter().map(|it| it.event.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["group.left", "group.v2.leave"], "{heard:?}");
    assert!(heard.iter().all(|it| it.data["session"] == "second"));

    // From behind the first: the second comes again, and what follows.
    let again = scene.request("GET", "/api/*/events?events=group.join");
    let mut again = Stream::open(again.header("last-event-id", &first.id)).await;
    let resumed = [again.next().await, again.next().await];
    assert!(resumed.contains(&second), "{resumed:?}");
    // An id that is not known (any more) is said to leave a gap.
    let stale = scene.request("GET", "/api/default/events?events=group.join");
    let mut stale = Stream::open(stale.header("last-event-id", "gone")).await;
    assert_eq!(stale.next().await.event, "groupmq.gap");
    assert_eq!(stale.next().await, second);

    let typo = scene
        .send(
            "GET",
            "/api/default/events?events=group.joined",
            &Value::Null,
        )
        .await;
    typo.assert_problem(400, "BAD_REQUEST");
}

#[tokio::test]
async fn websockets_hear_the_same_by_our_path_and_by_wahas() {
    let scene = Scene::new().await;
    let mut ours = socket(&scene, "/api/default/events?events=group.join").await;
    let waha = "/ws?x-api-key=any&session=*&events=group.v2.join&events=session.status";
    let mut waha = socket(&scene, waha).await;
    let id = scene.group(&["15550000002@c.us"]).await;
    let event = next(&mut ours).await;
    assert_eq!(
        (&event["event"], &event["payload"]["chatId"]),
        (&json!("group.join"), &json!(id))
    );
    let mut sessions = [next(&mut waha).await, next(&mut waha).await]
        .map(|it| format!("{} {}", it["event"], it["session"]));
    sessions.sort();
    let expected = [
        r#""group.v2.join" "default""#,
        r#""group.v2.join" "second""#,
    ];
    assert_eq!(sessions, expected);

    let mut wrong = socket(&scene, "/ws?session=not%20one").await;
    let Some(Ok(Message::Close(Some(frame)))) = wrong.next().await else {
        panic!("it was not closed");
    };
    assert_eq!(u16::from(frame.code), 4001);
    answer(scene.request("GET", "/ws"))
        .await
        .assert_problem(400, "BAD_REQUEST");
}

#[tokio::test]
async fn a_listener_that_falls_behind_is_told_so() {
    let scene = Scene::with(|options| options.set("gateway.events_kept", "4")).await;
    let mut first = Stream::open(scene.request("GET", "/api/default/events")).await;
    let mut last = String::new();
    for _ in 0..10 {
        last = scene.group(&[]).await;
    }
    let seen = first.next().await;
    // A reply may come before the events: what is still on its way would be another gap.
    let is_last = |it: &Heard| it.event == "group.join" && it.data["payload"]["chatId"] == last;
    while !is_last(&first.next().await) {}
    let mut late = scene.request("GET", "/api/default/events");
    late = late.header("last-event-id", &seen.id);
    let mut late = Stream::open(late).await;
    assert_eq!(late.next().await.event, "groupmq.gap");
    for _ in 0..4 {
        assert!(late.next().await.event.starts_with("group."));
    }
}

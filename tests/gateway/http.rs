//! What HTTP clients expect: statuses, headers, limits, both versions, and patience that ends.

use groupmq_test_support::receiver::Receiver;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use std::time::{Duration, Instant};

use groupmq_test_support::worker::Options;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scene::{PATIENCE, Scene, answer, with_json};

fn create() -> Value {
    json!({ "name": "Group name", "participants": [] })
}

#[tokio::test]
async fn wrong_bodies_get_their_status_and_are_no_dead_letters() {
    let scene = Scene::with(|options| options.set("gateway.body_max", "2048")).await;
    let groups = "/api/default/groups";
    let large = json!({ "name": "x".repeat(4_000), "participants": [] });
    let too_large = scene.send("POST", groups, &large).await;
    too_large.assert_problem(413, "CONTENT_TOO_LARGE");

    let post = |kind: &'static str, body: &'static str| {
        let request = scene.request("POST", groups).header("content-type", kind);
        answer(request.body(body))
    };
    let form = post("application/x-www-form-urlencoded", "name=x").await;
    form.assert_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let untyped = scene.request("POST", groups).body("{}");
    answer(untyped)
        .await
        .assert_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let zipped = scene
        .request("POST", groups)
        .header("content-encoding", "gzip");
    let zipped = answer(with_json(zipped, &create())).await;
    zipped.assert_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    for body in ["{", "[]", "\"text\"", "{\"name\":\"a\"} {}"] {
        post("application/json", body)
            .await
            .assert_problem(400, "INVALID_JSON");
    }
    let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
    assert!(
        !metrics.contains("groupmq_dead_letters_total{"),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_named_and_where() {
    let scene = Scene::new().await;
    let groups = "/api/default/groups";
    let post = |kind: &'static str, body: &'static str| {
        let request = scene.request("POST", groups).header("content-type", kind);
        answer(request.body(body))
    };
    let wrong = post(
        "application/json; charset=utf-8",
        r#"{"name":"","extra":1}"#,
    )
    .await;
    wrong.assert_problem(400, "INVALID_PAYLOAD");
    let mut paths: Vec<_> = wrong.json()["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["path"].as_str().unwrap().to_owned())
        .collect();
    paths.sort();
    assert_eq!(paths, ["/extra", "/name", "/participants"]);
    let twice = post(
        "application/json",
        r#"{"name":"a","name":"b","participants":[]}"#,
    )
    .await;
    assert_eq!(twice.status, 400, "{twice:?}");
    let path = "/api/default/groups/12@g.us/subject";
    let ids = scene.send("PUT", path, &json!({ "subject": "x" })).await;
    assert_eq!(ids.json()["details"][0]["path"], "/groupId", "{ids:?}");
    let number = scene
        .send("GET", "/api/default/groups?limit=many", &Value::Null)
        .await;
    assert_eq!(number.json()["details"][0]["path"], "/limit", "{number:?}");

    let patched = scene.send("PATCH", groups, &Value::Null).await;
    patched.assert_problem(405, "METHOD_NOT_ALLOWED");
    let allow = patched.header("allow");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    scene
        .send("GET", "/api/nothing", &Value::Null)
        .await
        .assert_problem(404, "NOT_FOUND");
    let bad = scene
        .send("GET", "/api/default/groups/%ff", &Value::Null)
        .await;
    bad.assert_problem(400, "BAD_REQUEST");
    let head = scene.send("HEAD", groups, &Value::Null).await;
    assert_eq!(
        (head.status.as_u16(), head.body.as_str()),
        (200, ""),
        "{head:?}"
    );

    let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
    assert!(
        !metrics.contains("groupmq_dead_letters_total{"),
        "{metrics}"
    );
}

#[tokio::test]
async fn requests_are_named_and_logged_and_traces_carried_on() {
    let mut scene = Scene::with(|options| options.set("log.format", "json")).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = scene
        .request("GET", "/api/default/groups")
        .header("x-request-id", "mine-7")
        .header("traceparent", trace);
    let named = answer(request).await;
    assert_eq!(named.header("x-request-id"), "mine-7");
    assert_eq!(named.header("traceparent"), trace);
    let unnamed = scene.send("GET", "/api/default/groups", &Value::Null).await;
    assert_eq!(unnamed.header("x-request-id").len(), 36, "{unnamed:?}");
    assert_eq!(unnamed.header("traceparent"), "");

    let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
    let counted = r#"groupmq_gateway_requests_total{route="/api/{session}/groups",status="200"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");

    assert_eq!(scene.worker.stop().await.unwrap(), 0);
    let log = scene.worker.log();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines
        .filter(|line: &Value| line["target"] == "groupmq::requests")
        .collect();
    let ids = [&named, &unnamed].map(|it| it.header("x-request-id"));
    for (line, id) in lines.iter().zip(ids) {
        let told = ["method", "route", "status", "request_id"].map(|it| &line[it]);
        assert_eq!(
            json!(told),
            json!(["GET", "/api/{session}/groups", 200, id])
        );
        assert!(line["duration_ms"].is_u64(), "{line}");
    }
    assert_eq!(lines.len(), 2, "{log}");
    assert_eq!(lines[0]["traceparent"], trace);
}

#[tokio::test]
async fn answers_are_compressed_and_http_2_is_spoken() {
    let scene = Scene::new().await;
    for _ in 0..5 {
        scene.group(&[]).await;
    }
    let path = "/api/default/groups";
    let zipped = answer(
        scene
            .request("HEAD", path)
            .header("accept-encoding", "gzip"),
    )
    .await;
    assert_eq!(zipped.header("content-encoding"), "gzip", "{zipped:?}");

    let client = Client::builder()
        .http2_prior_knowledge()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let response = client.get(scene.url(path)).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let groups: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(groups.as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn more_than_the_gateway_holds_is_refused_for_now() {
    let narrow = |options: Options| {
        options
            .set("gateway.in_flight", "1")
            .set("engine.sandbox.faults.default.delay", "3s")
    };
    let scene = Scene::with(narrow).await;
    let post = || scene.send("POST", "/api/default/groups", &Value::Null);
    // A request that is refused before it becomes a command takes no place.
    post().await.assert_problem(400, "INVALID_PAYLOAD");
    let body = create();
    let (a, b) = tokio::join!(
        scene.send("POST", "/api/default/groups", &body),
        scene.send("POST", "/api/default/groups", &body),
    );
    let (done, refused) = if a.status == 201 { (a, b) } else { (b, a) };
    assert_eq!(done.status, 201, "{done:?}");
    refused.assert_problem(429, "TOO_MANY_REQUESTS");
    assert_eq!(refused.header("retry-after"), "1");
}

#[tokio::test]
async fn errors_of_the_engine_have_their_status() {
    let ill = |options: Options| {
        options
            .set("retry.max_age", "1s")
            .set("engine.sandbox.faults.second.outage", "true")
            .set("engine.sandbox.faults.third.rate_limit", "30s")
    };
    let scene = Scene::with(ill).await;
    let offline = scene.send("POST", "/api/second/groups", &create()).await;
    offline.assert_problem(422, "SESSION_NOT_READY");
    assert!(!offline.header("retry-after").is_empty());
    let limited = scene.send("POST", "/api/third/groups", &create()).await;
    limited.assert_problem(429, "RATE_LIMITED");
    assert!(!limited.header("retry-after").is_empty());
    let id = scene.group(&["15550000002@c.us", "15550000003@c.us"]).await;
    let foreign = format!("/api/default/groups/{id}/leave");
    assert_eq!(
        scene.send("POST", &foreign, &Value::Null).await.body,
        "true"
    );
    let gone = scene
        .send(
            "GET",
            &format!("/api/default/groups/{id}/invite-code"),
            &Value::Null,
        )
        .await;
    gone.assert_problem(403, "NOT_A_MEMBER");
}

/// Sends some bytes and then nothing; how it ends.
async fn dawdle(scene: &Scene, bytes: &str) -> (Duration, String) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    end.unwrap_or_else(|_| panic!("{bytes:?}: still open")).ok();
    (begun.elapsed(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let scene = Scene::with(|options| options.set("gateway.client_timeout", "500ms")).await;
    for bytes in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET /docs/ HTTP/1.1\r\nhost: x\r\n",
    ] {
        let (_, said) = dawdle(&scene, bytes).await;
        assert!(!said.starts_with("HTTP/1.1 2"), "{bytes:?}: {said}");
    }
    let body = "POST /api/default/groups HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 100\r\nconnection: close\r\n\r\n{\"name\":";
    let (_, said) = dawdle(&scene, body).await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    // Idle between two requests.
    let (_, said) = dawdle(&scene, "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{}", said.len());
}

#[tokio::test]
async fn a_request_is_a_span_in_which_its_command_is_one() {
    let collector = Receiver::start().unwrap();
    let endpoint = collector.url("/");
    let mut scene = Scene::with(|options| options.set("otlp.endpoint", endpoint)).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = scene.request("GET", "/api/default/groups");
    answer(request.header("traceparent", trace)).await;
    // What is not sent yet is sent at the end.
    assert_eq!(scene.worker.stop().await.unwrap(), 0);
    let mut spans = Vec::new();
    for request in collector.got("/v1/traces") {
        let sent = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
        let scopes = sent
            .resource_spans
            .into_iter()
            .flat_map(|it| it.scope_spans);
        spans.extend(scopes.flat_map(|it| it.spans));
    }
    let named = |name: &str| spans.iter().find(|it| it.name == name);
    let request = named("GET /api/{session}/groups").unwrap();
    assert_eq!(
        request.parent_span_id,
        0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()
    );
    let process = spans.iter().find(|it| it.name.starts_with("process "));
    assert_eq!(process.unwrap().parent_span_id, request.span_id);
    assert!(spans.iter().all(|it| it.trace_id == request.trace_id));
}

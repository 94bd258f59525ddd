//! Traces: where a command belongs, everything belongs that came of it, and a collector of spans
//! sees how.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::receiver::Receiver;
use groupmq_test_support::waha::{Personality, Waha};
use groupmq_test_support::worker::{Options, Worker};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::json;

use super::behaviour::stage::on;
use super::scene::{PATIENCE, options};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PRODUCER: &str = "00f067aa0ba902b7";

/// A message's exchange, and its headers that are texts.
type Arrived = (String, BTreeMap<String, String>);

/// Publishes a `CreateGroup` with or without a trace, and collects so many replies and events of its
/// session.
async fn create(url: &str, prefix: &str, trace: Option<&str>, count: usize) -> Vec<Arrived> {
    let connection = Connection::connect(url, ConnectionProperties::default());
    let connection = connection.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let own = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let queue = channel.queue_declare("".into(), own, FieldTable::default());
    let queue = queue.await.unwrap().name().clone();
    for exchange in ["replies", "events"] {
        let exchange = format!("{prefix}.{exchange}");
        let (key, options) = ("default.#".into(), QueueBindOptions::default());
        let none = FieldTable::default();
        let bound = channel.queue_bind(queue.clone(), exchange.into(), key, options, none);
        bound.await.unwrap();
    }
    let mut headers = FieldTable::default();
    if let Some(trace) = trace {
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        headers.insert("traceparent".into(), text(trace));
        headers.insert("tracestate".into(), text("shop=1"));
    }
    let body = json!({"id": "traced", "type": "CreateGroup", "session": "default",
        "payload": {"name": "Climbing", "participants": ["15550000002@c.us"]}});
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_correlation_id("mine".into())
        .with_reply_to(queue.clone());
    let exchange = format!("{prefix}.commands");
    let body = body.to_string().into_bytes();
    let plain = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), "default".into(), plain, &body, properties);
    sent.await.unwrap();
    let plain = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue, "".into(), plain, FieldTable::default());
    let arriving = consumer.await.unwrap().take(count).map(|message| {
        let message = message.unwrap();
        let headers = message.properties.headers().clone().unwrap_or_default();
        let texts = headers.inner().iter().filter_map(|(name, value)| {
            let text = value.as_long_string()?.to_string();
            Some((name.to_string(), text))
        });
        (message.exchange.to_string(), texts.collect())
    });
    let arrived = tokio::time::timeout(PATIENCE, arriving.collect()).await;
    connection.close(200, "".into()).await.unwrap();
    arrived.unwrap()
}

/// The spans that a collector has got so far.
fn spans(collector: &Receiver) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in collector.got("/v1/traces") {
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        assert_eq!(request.header("authorization"), "Bearer of news");
        let request = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
        for resource in request.resource_spans {
            spans.extend(resource.scope_spans.into_iter().flat_map(|it| it.spans));
        }
    }
    spans
}

/// The spans, once one of this name is there.
async fn spans_with(collector: &Receiver, name: &str) -> Vec<Span> {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let spans = spans(collector);
            if spans.iter().any(|span| span.name == name) {
                return spans;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut all, byte| {
        write!(all, "{byte:02x}").unwrap();
        all
    })
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names = || spans.iter().map(|it| it.name.as_str()).collect::<Vec<_>>();
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in {:?}", names()))
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|it| it.key == key);
    let value = found.and_then(|it| it.value.as_ref()?.value.clone());
    let text = format!("{value:?}");
    let inner = text.split('"').nth(1).map(str::to_owned);
    inner.unwrap_or(text)
}

fn with_collector(options: Options, collector: &Receiver) -> Options {
    options
        .set("otlp.endpoint", collector.url(""))
        .set("otlp.authorization", "Bearer of news")
}

/// What the conventions want of the sending of a message.
fn assert_sent(send: &Span, exchange: &str) {
    let key = attribute(send, "messaging.rabbitmq.destination.routing_key");
    assert!(!key.is_empty() && key != "None", "{send:?}");
    let destination = if exchange.is_empty() {
        key
    } else {
        format!("{exchange}:{key}")
    };
    assert_eq!(attribute(send, "messaging.destination.name"), destination);
    assert_eq!(attribute(send, "messaging.message.id").len(), 36);
    let is_event = exchange.ends_with(".events");
    let correlation = if is_event { "None" } else { "mine" };
    let told = attribute(send, "messaging.message.conversation_id");
    assert_eq!(told, correlation);
}

#[tokio::test]
async fn a_collector_sees_a_command_its_work_and_what_came_of_it() {
    let (broker, prefix) = (
        RabbitMq::shared().await.unwrap(),
        groupmq_test_support::prefix(),
    );
    let collector = Receiver::start().unwrap();
    let endpoint = Receiver::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("groupmq.toml");
    let text = format!(
        "[[webhooks]]\nid = \"crm\"\nurl = \"{}\"\n",
        endpoint.url("/in")
    );
    std::fs::write(&file, text).unwrap();
    let options = with_collector(options(&broker.url(), &prefix), &collector)
        .file(&file)
        .set("egress.allow", "127.0.0.0/8")
        .set("roles", "commands,webhooks");
    let mut worker = Worker::start(&options).await.unwrap();
    let parent = format!("00-{TRACE}-{PRODUCER}-01");
    // The reply twice, and two events.
    let arrived = create(&broker.url(), &prefix, Some(&parent), 4).await;
    let delivered = endpoint.gets("/in", 1).await.unwrap();
    // What is still on its way to the collector is sent at the end.
    assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
    let spans = spans(&collector);

    let process = named(&spans, &format!("process {prefix}.commands"));
    assert_eq!(hex(&process.trace_id), TRACE);
    assert_eq!(hex(&process.parent_span_id), PRODUCER);
    assert_eq!(process.kind(), SpanKind::Consumer);
    assert_eq!(attribute(process, "messaging.system"), "rabbitmq");
    assert_eq!(
        attribute(process, "messaging.message.conversation_id"),
        "mine"
    );
    let destination = format!("{prefix}.commands:default:{prefix}.commands.0");
    assert_eq!(
        attribute(process, "messaging.destination.name"),
        destination
    );
    let tag = attribute(process, "messaging.rabbitmq.message.delivery_tag");
    assert_eq!(tag, "Some(IntValue(1))");
    // The producer gave it none.
    assert_eq!(attribute(process, "messaging.message.id"), "None");
    let execute = named(&spans, "execute CreateGroup");
    assert_eq!(execute.parent_span_id, process.span_id);
    assert_eq!(attribute(execute, "groupmq.engine"), "SANDBOX");
    for (exchange, headers) in &arrived {
        let parent = &headers["traceparent"];
        let span = parent.split('-').nth(2).unwrap();
        assert!(parent.starts_with(&format!("00-{TRACE}-")), "{parent}");
        assert_eq!(headers["tracestate"], "shop=1");
        let send = spans.iter().find(|it| hex(&it.span_id) == span).unwrap();
        assert_eq!(send.parent_span_id, process.span_id);
        assert_eq!(send.kind(), SpanKind::Producer);
        let destination = if exchange.is_empty() {
            "amq.default"
        } else {
            exchange
        };
        assert_eq!(send.name, format!("send {destination}"));
        assert_sent(send, exchange);
        assert!(process.start_time_unix_nano <= send.start_time_unix_nano);
    }
    let header = delivered[0].header("traceparent");
    let post = spans.iter().find(|it| header.contains(&hex(&it.span_id)));
    let post = post.unwrap();
    assert_eq!(
        (post.name.as_str(), post.kind()),
        ("POST", SpanKind::Client)
    );
    assert_eq!(
        attribute(post, "http.response.status_code"),
        "Some(IntValue(204))"
    );
    let around = |span: &Span| {
        let found = spans.iter().find(|it| it.span_id == span.parent_span_id);
        found.unwrap()
    };
    let process = around(post);
    assert_eq!(process.name, format!("process {prefix}.webhook.crm"));
    assert_eq!(process.kind(), SpanKind::Consumer);
    assert_eq!(around(process).name, format!("send {prefix}.events"));
    assert_eq!(delivered[0].header("tracestate"), "shop=1");
}

#[tokio::test]
async fn requests_to_waha_and_the_events_that_follow_belong_to_the_command() {
    let (broker, prefix) = (
        RabbitMq::shared().await.unwrap(),
        groupmq_test_support::prefix(),
    );
    let collector = Receiver::start().unwrap();
    let waha = Waha::start(Personality::Gows).await.unwrap();
    let options = with_collector(options(&broker.url(), &prefix), &collector);
    let options = on(&waha, options);
    let _worker = Worker::start(&options).await.unwrap();
    let parent = format!("00-{TRACE}-{PRODUCER}-01");
    let arrived = create(&broker.url(), &prefix, Some(&parent), 3).await;
    for (exchange, headers) in &arrived {
        let parent = headers.get("traceparent").map_or("", String::as_str);
        assert!(
            parent.starts_with(&format!("00-{TRACE}-")),
            "{exchange}: {parent:?}"
        );
    }
    let asked = waha.asked();
    let creating = asked.iter().find(|it| it.trace.contains(TRACE)).unwrap();
    assert_eq!(creating.trace_state, "shop=1");
    // It ends behind all the others.
    let spans = spans_with(&collector, &format!("process {prefix}.commands")).await;
    let request = spans
        .iter()
        .find(|it| creating.trace.contains(&hex(&it.span_id)))
        .unwrap();
    assert_eq!(request.kind(), SpanKind::Client);
    assert_eq!(attribute(request, "server.address"), "127.0.0.1");
    let execute = named(&spans, "execute CreateGroup");
    assert_eq!(request.parent_span_id, execute.span_id);
}

#[tokio::test]
async fn without_a_collector_traces_are_passed_on_and_none_begins() {
    let (broker, prefix) = (
        RabbitMq::shared().await.unwrap(),
        groupmq_test_support::prefix(),
    );
    let _worker = Worker::start(&options(&broker.url(), &prefix))
        .await
        .unwrap();
    for (_, headers) in create(&broker.url(), &prefix, None, 2).await {
        assert_eq!(headers.get("traceparent"), None);
    }
    let parent = format!("00-{TRACE}-{PRODUCER}-00");
    for (_, headers) in create(&broker.url(), &prefix, Some(&parent), 2).await {
        assert_eq!(headers["traceparent"], parent);
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let (broker, prefix) = (
        RabbitMq::shared().await.unwrap(),
        groupmq_test_support::prefix(),
    );
    let mut collector = Receiver::start().unwrap();
    let options = with_collector(options(&broker.url(), &prefix), &collector);
    collector.down().await;
    let mut worker = Worker::start(&options).await.unwrap();
    create(&broker.url(), &prefix, None, 4).await;
    assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
    let log = worker.log();
    assert!(
        log.contains("the OTLP collector (otlp.endpoint) did not accept spans"),
        "{log}"
    );
}

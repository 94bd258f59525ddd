//! One attempt: the HTTP request, its answer, and the entry in the delivery log.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::amqp::Incoming;
use crate::config::DeliveryCrash;
use crate::contract::{Timestamp, WebhookSettings};
use crate::observability::events;
use crate::observability::trace::{Span, SpanKind};
use crate::outbound::{Answer, Failure, HeaderName, HeaderValue, Method, Request};
use crate::store::deliveries;

use super::EndpointWorker;
use crate::webhooks::messages::event_id;
use crate::webhooks::verdict::{self, Verdict};

/// At most this many bytes of an answer are read …
const ANSWER_MAX: usize = 16 * 1024;
/// … and at most this many characters are kept in the delivery log.
const SHOWN: usize = 256;

const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const WAHA_REQUEST_ID: HeaderName = HeaderName::from_static("x-webhook-request-id");
const WAHA_TIMESTAMP: HeaderName = HeaderName::from_static("x-webhook-timestamp");
const WAHA_HMAC: HeaderName = HeaderName::from_static("x-webhook-hmac");
const WAHA_ALGORITHM: HeaderName = HeaderName::from_static("x-webhook-hmac-algorithm");

/// The outcome of an attempt.
#[derive(Debug)]
pub(super) struct AttemptOutcome {
    pub(super) verdict: Verdict,
    /// The status and the beginning of the answer, or the failure: for dead letters and the delivery log.
    pub(super) detail: String,
    /// The same without any text from the endpoint: for logs and notices.
    pub(super) summary: String,
}

impl EndpointWorker {
    /// Sends an event once. `number` is the number of this attempt, from 1.
    pub(super) async fn attempt(&self, message: &Incoming, number: u32) -> AttemptOutcome {
        let now = self.shared.now();
        let request_id = uuid::Builder::from_random_bytes(rand::random())
            .into_uuid()
            .to_string();
        let id = event_id(message);
        let begun = Instant::now();
        let process = self.process_span(message, &id);
        let mut span = self.request_span(&process);
        let Some(mut request) = self.request(message, &id, &request_id, now) else {
            // Unreachable in practice: the URL was validated when it was set.
            let detail = "the endpoint's url is invalid; set it again".to_owned();
            return AttemptOutcome {
                verdict: Verdict::Refused,
                summary: detail.clone(),
                detail,
            };
        };
        for (name, value) in span.trace().headers() {
            if let (Ok(name), Ok(value)) = (name.parse(), value.parse()) {
                request.headers.push((name, value));
            }
        }
        self.crash(DeliveryCrash::BeforeRequest);
        let answer = self.shared.outbound.send(request).await;
        self.crash(DeliveryCrash::AfterRequest);
        let took = begun.elapsed();
        let verdict = verdict::classify(&answer);
        let (status, detail) = describe(&answer);
        if let Some(status) = status {
            span.set("http.response.status_code", i64::from(status));
        }
        if !matches!(verdict, Verdict::Delivered) {
            span.fail(verdict.name());
        }
        drop(span);
        events::webhook_attempted(verdict.name(), took);
        self.shared.log.note(deliveries::Attempt {
            endpoint: self.endpoint.name.clone(),
            event_id: id,
            event: message.message_type.clone().unwrap_or_default(),
            attempt: number,
            request_id,
            at: now,
            took,
            outcome: verdict.name().to_owned(),
            status,
            answer: Some(detail.clone()),
        });
        let summary =
            status.map_or_else(|| detail.clone(), |status| format!("it answered {status}"));
        AttemptOutcome {
            verdict,
            detail,
            summary,
        }
    }

    /// Starts the `process` span of the message, by OpenTelemetry's conventions for RabbitMQ.
    fn process_span(&self, message: &Incoming, id: &str) -> Span {
        let trace = self.shared.tracer.from_headers(&message.headers);
        let mut span = trace.span(SpanKind::Consumer, "process");
        if span.is_recorded() {
            span.rename(format!("process {}", self.queue));
            span.set("messaging.system", "rabbitmq");
            span.set("messaging.operation.name", "process");
            span.set("messaging.operation.type", "process");
            span.set("messaging.destination.name", self.queue.clone());
            span.set("messaging.message.id", id.to_owned());
        }
        span
    }

    /// Starts the client span of the request within it, by the conventions for HTTP.
    fn request_span(&self, process: &Span) -> Span {
        let mut span = process.trace().span(SpanKind::Client, "POST");
        if span.is_recorded() {
            let host = self.url.as_ref().and_then(|url| url.host_str());
            span.set("http.request.method", "POST");
            span.set("server.address", host.unwrap_or_default().to_owned());
        }
        span
    }

    fn request(
        &self,
        message: &Incoming,
        id: &str,
        request_id: &str,
        now: Timestamp,
    ) -> Option<Request> {
        let settings = &self.endpoint.settings;
        let now_ms = now.0.as_millisecond();
        let mut headers = Headers(Vec::with_capacity(12 + self.custom_headers.len()));
        headers.add(CONTENT_TYPE, "application/json");
        headers.add(ID, id);
        headers.add(TIMESTAMP, &(now_ms / 1000).to_string());
        if let Some(signature) = self.signer.standard(id, now_ms, &message.body) {
            headers.add(SIGNATURE, &signature);
        }
        headers.add(WAHA_REQUEST_ID, request_id);
        headers.add(WAHA_TIMESTAMP, &now_ms.to_string());
        if let Some(signature) = self.signer.waha(&message.body) {
            headers.add(WAHA_HMAC, &signature);
            headers.add(WAHA_ALGORITHM, "sha512");
        }
        headers.0.extend(self.custom_headers.iter().cloned());
        let own = settings
            .timeout_seconds
            .map(|seconds| Duration::from_secs(seconds.into()));
        Some(Request {
            method: Method::POST,
            url: self.url.clone()?,
            headers: headers.0,
            body: Bytes::from(message.body.clone()),
            deadline: own.unwrap_or(self.shared.settings.timeout),
            body_limit: ANSWER_MAX,
        })
    }
}

/// The endpoint's custom headers. An invalid one is left out; they were validated when they were set.
pub(super) fn custom_headers(settings: &WebhookSettings) -> Vec<(HeaderName, HeaderValue)> {
    let headers = settings.custom_headers.iter();
    headers
        .filter_map(|it| {
            Some((
                it.name.as_str().parse().ok()?,
                it.value.as_str().parse().ok()?,
            ))
        })
        .collect()
}

struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// Adds a header. A value that is not valid in a header is left out.
    fn add(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = value.parse() {
            self.0.push((name, value));
        }
    }
}

/// The status of an answer, and the beginning of its body or the description of the failure.
fn describe(answer: &Result<Answer, Failure>) -> (Option<u16>, String) {
    match answer {
        Ok(answer) => {
            let text = answer.text();
            // Control characters would garble the table of `groupmq webhooks deliveries`.
            let shown: String = text
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(SHOWN)
                .collect();
            let detail = format!("{} {}", answer.status, shown.trim());
            (Some(answer.status), detail.trim_end().to_owned())
        }
        Err(failure) => match failure.begun {
            Some(begun) => (Some(begun.status), format!("{}; {failure}", begun.status)),
            None => (None, failure.to_string()),
        },
    }
}

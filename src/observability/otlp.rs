//! Export of spans to a collector: OpenTelemetry's protocol (OTLP) over HTTP, as protobuf.
//!
//! One task sends them in batches. A collector that is slow or down causes lost spans, which are counted,
//! and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config;
use crate::outbound::{Outbound, Request};

use super::events;
use super::trace::Tracer;

/// The maximum number of spans that wait to be sent; more are dropped.
const QUEUE_MAX: usize = 4096;
/// The maximum number of spans in a batch.
const BATCH_MAX: usize = 512;
/// How long a span waits for others of its batch.
const BATCH_PAUSE: Duration = Duration::from_millis(500);
/// The time limit for the last batches when the process stops.
const LAST_BATCHES_WITHIN: Duration = Duration::from_secs(2);
/// The maximum number of bytes of a collector's answer that are read.
const ANSWER_MAX: usize = 64 * 1024;

/// Makes a tracer, and the task that exports its spans; the task ends when every handle to the tracer is
/// dropped.
///
/// # Errors
/// When the endpoint cannot be used.
pub fn export(
    base: &str,
    settings: &config::Otlp,
    outbound: Outbound,
) -> Result<(Tracer, impl Future<Output = ()> + Send + 'static), ExporterBuildError> {
    let client = Client {
        outbound,
        deadline: settings.timeout,
    };
    let authorization = settings.authorization.iter();
    let headers: HashMap<_, _> = authorization
        .map(|it| ("authorization".to_owned(), it.expose_secret().to_owned()))
        .collect();
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/')))
        .with_headers(headers)
        .with_timeout(settings.timeout)
        .build()?;
    let about = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ];
    let resource = Resource::builder_empty()
        .with_service_name(settings.service_name.clone())
        .with_attributes(about)
        .build();
    exporter.set_resource(&resource);
    let (ended, waiting) = mpsc::channel(QUEUE_MAX);
    Ok((Tracer::new(ended, settings.share), send(exporter, waiting)))
}

async fn send(exporter: SpanExporter, mut waiting: mpsc::Receiver<SpanData>) {
    let mut batch = Vec::new();
    let mut last = None;
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if batch.len() < BATCH_MAX && !waiting.is_closed() {
            tokio::time::sleep(BATCH_PAUSE).await;
            while batch.len() < BATCH_MAX
                && let Ok(more) = waiting.try_recv()
            {
                batch.push(more);
            }
        }
        let count = batch.len();
        let sending = exporter.export(std::mem::take(&mut batch));
        let sent = if waiting.is_closed() {
            let until = *last.get_or_insert_with(|| Instant::now() + LAST_BATCHES_WITHIN);
            match tokio::time::timeout_at(until, sending).await {
                Ok(sent) => sent,
                Err(_) => return,
            }
        } else {
            sending.await
        };
        if let Err(error) = sent {
            events::spans_not_sent(count, &error);
        }
    }
}

/// Sends with `Outbound` instead of a second HTTP client.
#[derive(Debug)]
struct Client {
    outbound: Outbound,
    deadline: Duration,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let named = |(name, value): (Option<_>, _)| name.map(|name| (name, value));
        let answer = self
            .outbound
            .send(Request {
                method: Method::POST,
                url: head.uri.to_string().parse()?,
                headers: head.headers.into_iter().filter_map(named).collect(),
                body,
                deadline: self.deadline,
                body_limit: ANSWER_MAX,
            })
            .await?;
        let status = answer.status;
        Ok(Response::builder()
            .status(status)
            .body(Bytes::from(answer.body))?)
    }
}

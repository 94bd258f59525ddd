//! Traces: the trace context (W3C Trace Context) of a command, its engine's requests, its reply and its
//! events; and spans, with their durations. OpenTelemetry's SDK makes the spans, and its propagator reads and
//! writes the headers.
//!
//! The producer of the command begins the trace: its `traceparent` header is passed on to everything that
//! follows from the command. Spans are recorded only if a collector is configured (`otlp`); then a command
//! without a trace begins one. Without a collector the header is passed on unchanged, and no span is made.
//!
//! Contexts are passed as values, not as the thread's current span: a command begins in one task, continues
//! in another, and its trace is stored with its events.
//!
//! Attributes follow OpenTelemetry's conventions for messaging and HTTP. They never hold a body, a phone
//! number or a secret.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceState, Tracer as _,
    TracerProvider as _,
};
pub use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry::{Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanProcessor};
use tokio::sync::mpsc;

use super::events;

/// The header with the position of a message or request in a trace.
pub const PARENT: &str = "traceparent";
/// The header with vendor-specific data of the trace.
pub const STATE: &str = "tracestate";

/// W3C's limit; longer values may be dropped.
const STATE_BYTES: usize = 512;

/// Begins traces and continues those of other processes; clones share the exporter. The default records
/// nothing.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<SdkTracer>);

/// A trace context, cheap to clone. The default has none.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    context: Context,
    tracer: Tracer,
}

/// An operation in progress; it ends when dropped, even if contexts that follow from it are still in use.
#[derive(Debug)]
pub struct Span(Trace);

/// Whether a `traceparent` can be continued.
#[must_use]
pub fn is_valid(parent: &str) -> bool {
    Tracer::default().continued(Some(parent), None).is_valid()
}

impl Tracer {
    /// Hands spans that have ended to the exporter; of the traces that begin here, this share.
    #[must_use]
    pub fn new(ended: mpsc::Sender<SpanData>, share: f64) -> Self {
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_span_processor(Queue(ended))
            .build();
        let scope = InstrumentationScope::builder("groupmq")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Self(Some(provider.tracer_with_scope(scope)))
    }

    /// Continues the trace in the headers of a message.
    #[must_use]
    pub fn from_headers(&self, headers: &BTreeMap<String, String>) -> Trace {
        let header = |name: &str| headers.get(name).map(String::as_str);
        self.continued(header(PARENT), header(STATE))
    }

    /// Continues the trace in these two headers, if there is one.
    #[must_use]
    pub fn continued(&self, parent: Option<&str>, state: Option<&str>) -> Trace {
        let received = Received {
            parent: parent.filter(|parent| is_well_formed(parent)),
            state: state.filter(|state| state.len() <= STATE_BYTES),
        };
        let propagator = TraceContextPropagator::new();
        Trace {
            context: propagator.extract_with_context(&Context::new(), &received),
            tracer: self.clone(),
        }
    }
}

/// Whether each field of `traceparent` has the length that W3C wants; the propagator does not check it.
fn is_well_formed(parent: &str) -> bool {
    let mut fields = parent.split('-');
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let mut fits = |digits| {
        let field = fields.next().unwrap_or_default();
        field.len() == digits && field.bytes().all(is_hex)
    };
    // Later versions may have more fields; this one may not.
    [2, 32, 16, 2].into_iter().all(&mut fits)
        && (!parent.starts_with("00") || fields.next().is_none())
}

impl Trace {
    /// A context of this trace id at which nothing is recorded.
    #[must_use]
    pub fn with_id(id: u128) -> Self {
        let context = SpanContext::new(
            id.into(),
            SpanId::from(rand::random::<u64>() | 1),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        Self {
            context: Context::new().with_remote_span_context(context),
            tracer: Tracer::default(),
        }
    }

    /// Whether there is a trace.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.context.span().span_context().is_valid()
    }

    /// The trace id; zeros without a trace.
    #[must_use]
    pub fn id(&self) -> TraceId {
        self.context.span().span_context().trace_id()
    }

    /// The headers that pass this context on with a message or a request.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> + use<> {
        let mut headers = Headers::default();
        TraceContextPropagator::new().inject_context(&self.context, &mut headers);
        headers.0.into_iter()
    }

    /// Begins an operation that is part of the trace.
    #[must_use]
    pub fn span(&self, kind: SpanKind, name: &'static str) -> Span {
        let Some(tracer) = &self.tracer.0 else {
            return Span(self.clone());
        };
        let builder = tracer.span_builder(name).with_kind(kind);
        let span = tracer.build_with_context(builder, &self.context);
        Span(Self {
            context: Context::new().with_span(span),
            tracer: self.tracer.clone(),
        })
    }
}

impl Span {
    /// The context for operations that follow from this one.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.0
    }

    /// Whether its attributes are recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.0.context.span().is_recording()
    }

    /// Replaces the name, once a more specific one is known.
    pub fn rename(&mut self, name: String) {
        self.0.context.span().update_name(name);
    }

    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let span = self.0.context.span();
        span.set_attribute(KeyValue::new(key, value));
    }

    /// Records the class of an error, without varying parts.
    pub fn fail(&mut self, error: impl Into<Cow<'static, str>>) {
        let span = self.0.context.span();
        span.set_attribute(KeyValue::new("error.type", error.into()));
        span.set_status(Status::error(""));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.0.context.span().end();
    }
}

/// The headers of a message or request that the propagator reads.
struct Received<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl Extractor for Received<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => self.parent,
            STATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

/// The headers that the propagator writes; empty ones are omitted.
#[derive(Default)]
struct Headers(Vec<(String, String)>);

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.push((key.to_owned(), value));
        }
    }
}

/// Hands spans to the task that exports them. The SDK's own processors use a thread or do not count what
/// they drop.
#[derive(Debug)]
struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // Work never waits for the export of its spans.
        if self.0.try_send(span).is_err() {
            events::spans_dropped(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT_HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn collected(share: f64) -> (Tracer, mpsc::Receiver<SpanData>) {
        let (ended, collected) = mpsc::channel(8);
        (Tracer::new(ended, share), collected)
    }

    /// The headers after those of a message have been read.
    fn passed_on(parent: &str, state: Option<&str>) -> Vec<(String, String)> {
        let trace = Tracer::default().continued(Some(parent), state);
        trace.headers().collect()
    }

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_well_formed_header_is_read_and_written_and_any_other_is_nothing() {
        let wanted = headers(&[(PARENT, PARENT_HEADER)]);
        assert_eq!(passed_on(PARENT_HEADER, None), wanted);
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
            // The propagator by itself takes these.
            "00-4bf9-00f0-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        ] {
            assert_eq!(passed_on(wrong, Some("vendor=1")), [], "{wrong}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(passed_on(later, None), wanted);
    }

    #[test]
    fn a_state_that_is_malformed_or_too_long_is_dropped_without_its_parent() {
        let long = format!("vendor={},other={}", "1".repeat(250), "2".repeat(250));
        for state in ["", "no pair", long.as_str()] {
            let wanted = headers(&[(PARENT, PARENT_HEADER)]);
            assert_eq!(passed_on(PARENT_HEADER, Some(state)), wanted, "{state}");
        }
    }

    #[test]
    fn without_a_collector_the_headers_are_passed_on_as_they_came() {
        let state = "vendor=1,rojo@x=00f067aa0ba902b7";
        let trace = Tracer::default().continued(Some(PARENT_HEADER), Some(state));
        let span = trace.span(SpanKind::Consumer, "process");
        let passed_on: Vec<_> = span.trace().headers().collect();
        assert_eq!(
            passed_on,
            headers(&[(PARENT, PARENT_HEADER), (STATE, state)])
        );
        assert!(!span.is_recorded());
        assert_eq!(Trace::default().headers().count(), 0);
    }

    #[test]
    fn a_collector_gets_each_span_with_its_parent() {
        let (tracer, mut collected) = collected(0.0);
        let trace = tracer.continued(Some(PARENT_HEADER), Some("vendor=1"));
        let outer = trace.span(SpanKind::Consumer, "process");
        let mut inner = outer.trace().span(SpanKind::Client, "POST");
        inner.set("http.response.status_code", 503);
        inner.fail("503");
        drop(inner);
        drop(outer);
        let (inner, outer) = (collected.try_recv().unwrap(), collected.try_recv().unwrap());
        let parent = trace.context.span().span_context().span_id();
        assert_eq!(parent.to_string(), "00f067aa0ba902b7");
        assert_eq!(outer.parent_span_id, parent);
        assert!(outer.parent_span_is_remote);
        assert_eq!(inner.parent_span_id, outer.span_context.span_id());
        assert!(!inner.parent_span_is_remote);
        assert_eq!(inner.span_context.trace_id(), trace.id());
        assert_eq!(inner.span_context.trace_state().header(), "vendor=1");
        assert_eq!(inner.status, Status::error(""));
        let attributes = [
            KeyValue::new("http.response.status_code", 503),
            KeyValue::new("error.type", "503"),
        ];
        assert_eq!(inner.attributes, attributes);
        assert!(outer.start_time <= inner.start_time && inner.end_time <= outer.end_time);
    }

    #[test]
    fn a_span_ends_although_its_context_is_still_in_use() {
        let (tracer, mut collected) = collected(1.0);
        let span = tracer
            .continued(None, None)
            .span(SpanKind::Consumer, "process");
        let trace = span.trace().clone();
        drop(span);
        let ended = collected.try_recv().unwrap();
        drop(trace.span(SpanKind::Producer, "send"));
        let sent = collected.try_recv().unwrap();
        assert_eq!(sent.parent_span_id, ended.span_context.span_id());
    }

    #[test]
    fn of_traces_that_begin_here_only_the_share_asked_for_is_recorded() {
        for (share, count) in [(1.0, 1), (0.0, 0)] {
            let (tracer, mut collected) = collected(share);
            let span = tracer
                .continued(None, None)
                .span(SpanKind::Consumer, "process");
            assert!(span.trace().is_valid());
            drop(span);
            assert_eq!(usize::from(collected.try_recv().is_ok()), count);
        }
    }

    #[test]
    fn a_trace_that_is_not_sampled_by_its_producer_is_not_recorded() {
        let (tracer, mut collected) = collected(1.0);
        let unsampled = PARENT_HEADER.replace("-01", "-00");
        drop(
            tracer
                .continued(Some(&unsampled), None)
                .span(SpanKind::Consumer, "process"),
        );
        assert!(collected.try_recv().is_err());
    }

    #[test]
    fn the_exporter_ends_once_every_tracer_context_and_span_is_dropped() {
        let (tracer, mut collected) = collected(1.0);
        let span = tracer
            .continued(None, None)
            .span(SpanKind::Consumer, "process");
        drop(tracer);
        assert_eq!(collected.try_recv(), Err(mpsc::error::TryRecvError::Empty));
        drop(span);
        assert_eq!(collected.try_recv().unwrap().name, "process");
        let ended = collected.try_recv();
        assert_eq!(ended, Err(mpsc::error::TryRecvError::Disconnected));
    }
}

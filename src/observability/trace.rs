//! Traces: the trace context (W3C Trace Context) of a command, its engine's requests, its reply and its
//! events; and spans, with their durations.
//!
//! The producer of the command begins the trace: its `traceparent` header is passed on to everything that
//! follows from the command. Spans are recorded only if a collector is configured ([`super::otlp`]); then a
//! command without a trace begins one. Without a collector the header is passed on unchanged, and nothing
//! is recorded.
//!
//! Attributes follow OpenTelemetry's conventions for messaging and HTTP. They never hold a body, a phone
//! number or a secret.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::clock::Clock;

use super::events;

/// The header with the position of a message or request in a trace.
pub const PARENT: &str = "traceparent";
/// The header with vendor-specific data of the trace.
pub const STATE: &str = "tracestate";

/// W3C's limit; longer values may be dropped.
const STATE_BYTES: usize = 512;

/// A span context: the position in a trace that `traceparent` identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The trace id.
    pub trace: u128,
    /// The span id.
    pub span: u64,
    /// Whether its spans are recorded.
    pub sampled: bool,
}

/// The value of a span's attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(Cow<'static, str>),
    /// A number.
    Int(i64),
}

/// The kind of a span, as OpenTelemetry defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Processing a received message.
    Consumer,
    /// Sending a message.
    Producer,
    /// A request to another server.
    Client,
    /// Answering a request.
    Server,
    /// Work within this process.
    Internal,
}

/// A span that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its own position.
    pub place: Place,
    /// The `tracestate`.
    pub state: Option<Arc<str>>,
    /// The id of the parent span; 0 for none.
    pub parent: u64,
    /// Whether the parent is another process's.
    pub remote: bool,
    /// The operation.
    pub name: Cow<'static, str>,
    /// Its kind.
    pub kind: Kind,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its attributes.
    pub attributes: Vec<(&'static str, Value)>,
    /// The class of its error.
    pub error: Option<Cow<'static, str>>,
}

/// Begins traces and continues those of other processes; clones share the exporter.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Sink>);

#[derive(Debug, Clone)]
struct Sink {
    ended: mpsc::Sender<Ended>,
    /// The share of the traces begun here that is recorded.
    share: f64,
    clock: Arc<dyn Clock>,
}

/// A trace context, cheap to clone. The default has none.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    place: Option<Place>,
    state: Option<Arc<str>>,
    sink: Option<Sink>,
}

/// An operation in progress; it ends when dropped.
#[derive(Debug)]
pub struct Span {
    trace: Trace,
    /// Only if the span is sampled.
    recorded: Option<Box<Recorded>>,
}

#[derive(Debug)]
struct Recorded {
    parent: u64,
    remote: bool,
    name: Cow<'static, str>,
    kind: Kind,
    began: Timestamp,
    attributes: Vec<(&'static str, Value)>,
    error: Option<Cow<'static, str>>,
}

impl Place {
    /// Reads `traceparent`; none if it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next()?;
            let fits = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            (part.len() == digits && part.bytes().all(fits)).then_some(part)
        };
        let version = hex(2)?;
        let trace = u128::from_str_radix(hex(32)?, 16).ok()?;
        let span = u64::from_str_radix(hex(16)?, 16).ok()?;
        let flags = u8::from_str_radix(hex(2)?, 16).ok()?;
        // Later versions may have more fields; this one may not.
        let ends = version != "00" || parts.next().is_none();
        let valid = version != "ff" && trace != 0 && span != 0 && ends;
        valid.then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }

    fn begin(share: f64) -> Self {
        Self {
            trace: rand::random::<u128>().max(1),
            span: fresh(),
            sampled: rand::random::<f64>() < share,
        }
    }

    fn child(self) -> Self {
        Self {
            span: fresh(),
            ..self
        }
    }
}

fn fresh() -> u64 {
    rand::random::<u64>().max(1)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

impl Tracer {
    /// Hands spans to the exporter; of the traces that begin here, this share.
    #[must_use]
    pub fn new(ended: mpsc::Sender<Ended>, share: f64, clock: Arc<dyn Clock>) -> Self {
        Self(Some(Sink {
            ended,
            share,
            clock,
        }))
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
        let place = parent.and_then(Place::parse);
        let state = state.filter(|state| place.is_some() && state.len() <= STATE_BYTES);
        Trace {
            place,
            state: state.map(Arc::from),
            sink: self.0.clone(),
        }
    }
}

impl Trace {
    /// A position without `tracestate`, at which nothing is recorded.
    #[must_use]
    pub fn at(place: Place) -> Self {
        Self {
            place: Some(place),
            ..Self::default()
        }
    }

    /// The position, if there is one.
    #[must_use]
    pub const fn place(&self) -> Option<Place> {
        self.place
    }

    /// The headers that pass this context on with a message or a request.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> {
        let parent = self
            .place
            .map(|place| (PARENT.to_owned(), place.to_string()));
        let state = self
            .state
            .as_ref()
            .map(|state| (STATE.to_owned(), state.to_string()));
        parent.into_iter().chain(state)
    }

    /// Begins an operation that another process requested.
    #[must_use]
    pub fn enter(&self, kind: Kind, name: &'static str) -> Span {
        self.begin(kind, name, true)
    }

    /// Begins a part of the current operation.
    #[must_use]
    pub fn span(&self, kind: Kind, name: &'static str) -> Span {
        self.begin(kind, name, false)
    }

    fn begin(&self, kind: Kind, name: &'static str, remote: bool) -> Span {
        let Some(sink) = &self.sink else {
            return Span {
                trace: self.clone(),
                recorded: None,
            };
        };
        let parent = self.place.map_or(0, |place| place.span);
        let begin = || Place::begin(sink.share);
        let place = self.place.map_or_else(begin, Place::child);
        let recorded = place.sampled.then(|| {
            Box::new(Recorded {
                parent,
                remote: remote && parent != 0,
                name: name.into(),
                kind,
                began: sink.clock.now(),
                attributes: Vec::new(),
                error: None,
            })
        });
        Span {
            trace: Trace {
                place: Some(place),
                state: self.state.clone(),
                sink: self.sink.clone(),
            },
            recorded,
        }
    }
}

impl Span {
    /// The context for operations that follow from this one.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whether its attributes are recorded.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Replaces the name, once a more specific one is known.
    pub fn rename(&mut self, name: String) {
        if let Some(recorded) = &mut self.recorded {
            recorded.name = name.into();
        }
    }

    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(recorded) = &mut self.recorded {
            recorded.attributes.push((key, value.into()));
        }
    }

    /// Records the class of an error, without varying parts.
    pub fn fail(&mut self, error: impl Into<Cow<'static, str>>) {
        if let Some(recorded) = &mut self.recorded {
            recorded.error = Some(error.into());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let (Some(recorded), Some(place), Some(sink)) =
            (self.recorded.take(), self.trace.place, &self.trace.sink)
        else {
            return;
        };
        let ended = Ended {
            place,
            state: self.trace.state.take(),
            parent: recorded.parent,
            remote: recorded.remote,
            name: recorded.name,
            kind: recorded.kind,
            began: recorded.began,
            ended: sink.clock.now(),
            attributes: recorded.attributes,
            error: recorded.error,
        };
        // Work never waits for the export of its spans.
        if sink.ended.try_send(ended).is_err() {
            events::spans_dropped(1);
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const PARENT_HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn collected(share: f64) -> (Tracer, mpsc::Receiver<Ended>) {
        let (ended, collected) = mpsc::channel(8);
        (Tracer::new(ended, share, Arc::new(SystemClock)), collected)
    }

    #[test]
    fn a_well_formed_header_is_read_and_written_and_any_other_is_nothing() {
        let place = Place::parse(PARENT_HEADER).unwrap();
        assert_eq!(place.to_string(), PARENT_HEADER);
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(Place::parse(later), Some(place));
    }

    #[test]
    fn without_a_collector_the_headers_are_passed_on_as_they_came() {
        let trace = Tracer::default().continued(Some(PARENT_HEADER), Some("vendor=1"));
        let span = trace.enter(Kind::Consumer, "process");
        let headers: Vec<_> = span.trace().headers().collect();
        let wanted = [(PARENT, PARENT_HEADER), (STATE, "vendor=1")];
        let wanted = wanted.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(headers, wanted);
        assert_eq!(Trace::default().headers().count(), 0);
    }

    #[test]
    fn a_collector_gets_each_span_with_its_parent() {
        let (tracer, mut collected) = collected(0.0);
        let trace = tracer.continued(Some(PARENT_HEADER), None);
        let outer = trace.enter(Kind::Consumer, "process");
        let mut inner = outer.trace().span(Kind::Client, "POST");
        inner.set("http.response.status_code", 503);
        inner.fail("503");
        drop(inner);
        drop(outer);
        let (inner, outer) = (collected.try_recv().unwrap(), collected.try_recv().unwrap());
        let parent = Place::parse(PARENT_HEADER).unwrap();
        assert_eq!((outer.parent, outer.remote), (parent.span, true));
        assert_eq!((inner.parent, inner.remote), (outer.place.span, false));
        assert_eq!(inner.place.trace, parent.trace);
        assert_eq!(inner.error.as_deref(), Some("503"));
        assert!(outer.began <= inner.began && inner.ended <= outer.ended);
    }

    #[test]
    fn of_traces_that_begin_here_only_the_share_asked_for_is_recorded() {
        for (share, count) in [(1.0, 1), (0.0, 0)] {
            let (tracer, mut collected) = collected(share);
            let span = tracer
                .continued(None, None)
                .enter(Kind::Consumer, "process");
            assert!(span.trace().place().is_some());
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
                .enter(Kind::Consumer, "process"),
        );
        assert!(collected.try_recv().is_err());
    }
}

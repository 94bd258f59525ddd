//! The spans of a command: its processing, and each message that results from it, with the attributes of
//! OpenTelemetry's conventions for RabbitMQ.

use crate::amqp::{Delivery, Outgoing};
use crate::observability::trace::{Span, SpanKind, Trace, Tracer};

/// The name of the default exchange in spans.
const DEFAULT: &str = "amq.default";

/// Begins the processing of a message that was delivered from a queue.
pub(super) fn process(tracer: &Tracer, delivery: &Delivery, queue: &str) -> Span {
    let message = &delivery.message;
    let mut span = tracer
        .from_headers(&message.headers)
        .span(SpanKind::Consumer, "process");
    if span.is_recorded() {
        let about = About {
            operation: "process",
            exchange: &message.exchange,
            routing_key: &message.routing_key,
            queue: Some(queue),
            id: message.message_id.as_deref().unwrap_or_default(),
            correlation_id: message.correlation_id.as_deref(),
        };
        about.describe(&mut span);
        let tag = i64::try_from(delivery.tag()).unwrap_or(i64::MAX);
        span.set("messaging.rabbitmq.message.delivery_tag", tag);
        if let Some(kind) = &message.message_type {
            span.set("groupmq.command.type", kind.clone());
        }
    }
    span
}

/// Begins the sending of messages, each of which carries the context on.
pub(super) fn send(trace: &Trace, messages: &mut [Outgoing]) -> Vec<Span> {
    let begin = |message: &mut Outgoing| {
        let mut span = trace.span(SpanKind::Producer, "send");
        if span.is_recorded() {
            let about = About {
                operation: "send",
                exchange: &message.exchange,
                routing_key: &message.routing_key,
                queue: None,
                id: &message.message_id,
                correlation_id: message.correlation_id.as_deref(),
            };
            about.describe(&mut span);
        }
        message.headers.extend(span.trace().headers());
        span
    };
    messages.iter_mut().map(begin).collect()
}

/// The attributes of a message; empty strings are omitted.
struct About<'a> {
    operation: &'static str,
    exchange: &'a str,
    routing_key: &'a str,
    /// The queue that it was delivered from.
    queue: Option<&'a str>,
    id: &'a str,
    correlation_id: Option<&'a str>,
}

impl About<'_> {
    fn describe(&self, span: &mut Span) {
        // Only the exchange: routing keys have high cardinality, in particular those of the default
        // exchange, which are reply queues.
        let name = if self.exchange.is_empty() {
            DEFAULT
        } else {
            self.exchange
        };
        span.rename(format!("{} {name}", self.operation));
        span.set("messaging.system", "rabbitmq");
        span.set("messaging.operation.name", self.operation);
        span.set("messaging.operation.type", self.operation);
        span.set("messaging.destination.name", self.destination());
        let attributes = [
            (
                "messaging.rabbitmq.destination.routing_key",
                self.routing_key,
            ),
            ("messaging.message.id", self.id),
            (
                "messaging.message.conversation_id",
                self.correlation_id.unwrap_or_default(),
            ),
        ];
        for (key, text) in attributes.into_iter().filter(|(_, text)| !text.is_empty()) {
            span.set(key, text.to_owned());
        }
    }

    /// `exchange:routing key:queue`, without empty parts, and without a queue whose name the routing key
    /// repeats.
    fn destination(&self) -> String {
        let queue = self.queue.filter(|queue| *queue != self.routing_key);
        let parts = [self.exchange, self.routing_key, queue.unwrap_or_default()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            DEFAULT.to_owned()
        } else {
            parts.join(":")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_called_as_the_conventions_have_it() {
        let destination = |exchange, routing_key, queue| {
            let about = About {
                operation: "process",
                exchange,
                routing_key,
                queue,
                id: "",
                correlation_id: None,
            };
            about.destination()
        };
        assert_eq!(destination("logs", "warning", None), "logs:warning");
        assert_eq!(destination("logs", "", None), "logs");
        assert_eq!(destination("", "warning", None), "warning");
        assert_eq!(destination("", "", None), "amq.default");
        let from_queue = |exchange, key| destination(exchange, key, Some("own"));
        assert_eq!(from_queue("logs", "warning"), "logs:warning:own");
        assert_eq!(from_queue("logs", ""), "logs:own");
        assert_eq!(from_queue("logs", "own"), "logs:own");
        assert_eq!(from_queue("", "own"), "own");
    }
}

//! What a trace shows of a command: its processing, and each message that came of it, with the
//! attributes of OpenTelemetry's conventions for RabbitMQ.

use crate::amqp::{Incoming, Outgoing};
use crate::observability::trace::{Kind, Span, Trace, Tracer};

/// Begins the processing of a message that has arrived.
pub(super) fn process(tracer: &Tracer, message: &Incoming) -> Span {
    let mut span = tracer.of(&message.headers).enter(Kind::Consumer, "process");
    if span.is_recorded() {
        let id = message.message_id.as_deref().unwrap_or_default();
        let place = (message.exchange.as_str(), message.routing_key.as_str());
        describe(&mut span, "process", place, id);
        if let Some(correlation) = &message.correlation_id {
            span.set("messaging.message.conversation_id", correlation.clone());
        }
        if let Some(kind) = &message.message_type {
            span.set("groupmq.command.type", kind.clone());
        }
    }
    span
}

/// Begins the sending of messages, each of which goes on from there.
pub(super) fn send(trace: &Trace, messages: &mut [Outgoing]) -> Vec<Span> {
    let begin = |message: &mut Outgoing| {
        let mut span = trace.span(Kind::Producer, "send");
        if span.is_recorded() {
            let place = (message.exchange.as_str(), message.routing_key.as_str());
            describe(&mut span, "send", place, &message.message_id);
        }
        message.headers.extend(span.trace().headers());
        span
    };
    messages.iter_mut().map(begin).collect()
}

fn describe(
    span: &mut Span,
    operation: &'static str,
    (exchange, routing_key): (&str, &str),
    id: &str,
) {
    // Through the default exchange the routing key is a queue, mostly one of many reply queues.
    let destination = if exchange.is_empty() {
        "amq.default"
    } else {
        exchange
    };
    span.rename(format!("{operation} {destination}"));
    span.set("messaging.system", "rabbitmq");
    span.set("messaging.operation.name", operation);
    span.set("messaging.operation.type", operation);
    span.set("messaging.destination.name", destination.to_owned());
    span.set(
        "messaging.rabbitmq.destination.routing_key",
        routing_key.to_owned(),
    );
    span.set("messaging.message.id", id.to_owned());
}

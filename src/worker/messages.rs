//! The messages of an outcome: events, replies, dead letters, deferred commands.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::amqp::{Incoming, Names, Outgoing, header};
use crate::contract::{
    CommandType, Envelope, ErrorBody, ErrorCode, Reply, Timestamp, WebhookNotice,
};
use crate::executor::{Accepted, Cause, CommandOutcome, Deferral};

/// The retry state of a command, from its headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeferralState {
    /// The number of deferrals because the engine failed.
    pub(super) attempts: u32,
    /// The number of deferrals.
    pub(super) deferrals: u32,
    /// Its position in its lane, if it was deferred in one.
    pub(super) ticket: Option<u64>,
    /// When it was first received.
    pub(super) first_seen: Option<Timestamp>,
    /// The cause of the last deferral.
    pub(super) cause: Option<Cause>,
    /// The time of the last deferral.
    pub(super) since: Option<Timestamp>,
}

impl DeferralState {
    /// Reads it from a message that returns from a delay queue; headers of any other message are a
    /// producer's.
    pub(super) fn from_message(message: &Incoming, names: &Names) -> Self {
        if message.exchange != names.back() {
            return Self::default();
        }
        let text = |name: &str| message.headers.get(name).map(String::as_str);
        let number = |name: &str| text(name).and_then(|text| text.parse().ok());
        Self {
            attempts: number(header::ATTEMPTS).unwrap_or_default(),
            deferrals: number(header::DEFERRALS).unwrap_or_default(),
            ticket: text(header::TICKET).and_then(|text| text.parse().ok()),
            first_seen: text(header::FIRST_SEEN)
                .and_then(|text| text.parse().ok())
                .map(Timestamp),
            cause: text(header::CODE).and_then(|code| {
                let code = ErrorCode::ALL.iter().find(|it| it.as_str() == code)?;
                Some(Cause {
                    code: *code,
                    words: text(header::REASON).unwrap_or_default().to_owned(),
                })
            }),
            // The returning message is the one that was published then.
            since: message
                .published_at
                .and_then(|second| i64::try_from(second).ok())
                .and_then(|second| jiff::Timestamp::from_second(second).ok())
                .map(Timestamp),
        }
    }

    /// The state after another deferral; without a `deferral` it only waits behind others of its lane.
    pub(super) fn further(
        &self,
        deferral: Option<&Deferral>,
        ticket: Option<u64>,
        now: Timestamp,
    ) -> Self {
        Self {
            attempts: self.attempts + u32::from(deferral.is_some_and(|it| it.counts)),
            deferrals: self.deferrals + u32::from(deferral.is_some()),
            ticket,
            first_seen: self.first_seen.or(Some(now)),
            cause: deferral.map_or_else(|| self.cause.clone(), |it| Some(Cause::of(&it.cause))),
            since: Some(now),
        }
    }
}

/// The maximum length of a fault's reason: headers must fit into one AMQP frame.
const REASON_BYTES: usize = 2_000;

/// Stands for a session or type that could not be read; it is not a valid session name.
const UNREAD: &str = "~";

/// The events in order, then the reply: to the replies exchange, and last to `reply_to`. A producer that
/// has read the reply may send its next command about the same group, whose events must come later.
pub(super) fn of_outcome(
    outcome: &CommandOutcome,
    command: &Incoming,
    names: &Names,
) -> Vec<Outgoing> {
    let reply = &outcome.reply;
    let body = json(reply);
    let events = outcome.events.iter();
    let mut messages: Vec<_> = events.map(|event| Outgoing::event(event, names)).collect();
    messages.extend(outcome.test.iter().map(|test| test_message(test, names)));
    messages.push(Outgoing {
        exchange: names.replies(),
        routing_key: reply_key(reply),
        ..reply_message(reply, command, body.clone())
    });
    // Only through the default exchange: publishing to a missing exchange would close our channel.
    if let Some(queue) = reply_queue(command, names) {
        messages.push(Outgoing {
            routing_key: queue.to_owned(),
            mandatory: true,
            ..reply_message(reply, command, body)
        });
    }
    messages
}

/// The destination of the command's reply. Our own queues are excluded: we publish there with our own
/// permissions, so a producer could have it signed and sent to any webhook endpoint, or executed.
pub(super) fn reply_queue<'a>(command: &'a Incoming, names: &Names) -> Option<&'a str> {
    let queue = command.reply_to.as_deref()?;
    (!names.is_own(queue)).then_some(queue)
}

/// The message as received, but without a picture, and with the reason why it was not processed.
pub(super) fn dead(
    error: &ErrorBody,
    command: &Incoming,
    reply: &Reply,
    names: &Names,
) -> Outgoing {
    let reason = error
        .further_details()
        .iter()
        .map(|detail| format!("; {}: {}", detail.path, detail.reason))
        .fold(error.message.clone(), |all, detail| all + &detail);
    let mut headers = own_headers(command);
    headers.insert(header::CODE.to_owned(), error.code.as_str().to_owned());
    headers.insert(header::REASON.to_owned(), fitting(&reason));
    // A message that was replayed and failed again keeps the time of its first failure.
    headers
        .entry(header::FIRST_SEEN.to_owned())
        .or_insert_with(|| reply.timestamp.to_string());
    Outgoing {
        exchange: names.dead(),
        routing_key: Names::DEAD_COMMANDS.to_owned(),
        // An id that was in the body alone: with a different one in the properties, the message could not be
        // replayed. Without any id, the reply's distinguishes the dead letters.
        message_id: command
            .message_id
            .clone()
            .or_else(|| reply.command_id.as_ref().map(ToString::to_string))
            .unwrap_or_else(|| reply.id.to_string()),
        message_type: command.message_type.clone().unwrap_or_default(),
        correlation_id: command.correlation_id.clone(),
        reply_to: command.reply_to.clone(),
        content_type: command.content_type.clone(),
        content_encoding: command.content_encoding.clone(),
        headers,
        body: command.body.clone(),
        mandatory: true,
        published_at: None,
    }
    .without_picture(reply.command_type.as_deref())
}

/// A command for a delay queue, from which it returns to its session's shard.
pub(super) fn deferred(
    accepted: &Accepted,
    command: &Incoming,
    deferral_state: &DeferralState,
    names: &Names,
    tier: Duration,
) -> Outgoing {
    let mut headers = own_headers(command);
    let mut set = |name: &str, value: String| headers.insert(name.to_owned(), value);
    set(header::ATTEMPTS, deferral_state.attempts.to_string());
    set(header::DEFERRALS, deferral_state.deferrals.to_string());
    if let Some(ticket) = deferral_state.ticket {
        set(header::TICKET, ticket.to_string());
    }
    if let Some(first_seen) = deferral_state.first_seen {
        set(header::FIRST_SEEN, first_seen.to_string());
    }
    if let Some(cause) = &deferral_state.cause {
        set(header::CODE, cause.code.as_str().to_owned());
        set(header::REASON, fitting(&cause.words));
    }
    let command_type = accepted.command.command_type();
    // The body names the session too, which may have been in the routing key only.
    let body = Envelope {
        id: Some(accepted.id.clone()),
        command_type: Some(command_type),
        session: Some(accepted.session.clone()),
        payload: serde_json::to_value(&accepted.command).ok(),
        expires_at: accepted.expires_at,
    };
    Outgoing {
        exchange: names.delay(tier),
        routing_key: accepted.session.to_string(),
        message_id: accepted.id.as_str().to_owned(),
        message_type: command_type.as_str().to_owned(),
        correlation_id: command.correlation_id.clone(),
        reply_to: command.reply_to.clone(),
        headers,
        body: json(&body),
        ..Outgoing::default()
    }
}

/// The text of an engine failure; that of an invalid message may quote it, and must not be logged.
pub(super) fn words_of(error: &ErrorBody) -> &str {
    match error.code {
        ErrorCode::EngineUnavailable
        | ErrorCode::Expired
        | ErrorCode::InDoubt
        | ErrorCode::RateLimited
        | ErrorCode::SessionNotFound
        | ErrorCode::SessionNotReady => &error.message,
        _ => "",
    }
}

/// A reason that fits into a header.
fn fitting(reason: &str) -> String {
    let end = reason.floor_char_boundary(REASON_BYTES);
    reason.get(..end).unwrap_or_default().to_owned()
}

/// The command's own headers, without the broker's, and with its original exchange and routing key.
fn own_headers(command: &Incoming) -> BTreeMap<String, String> {
    let mut headers = command.headers.clone();
    headers.retain(|name, _| !header::is_for_the_broker(name));
    headers
        .entry(header::EXCHANGE.to_owned())
        .or_insert_with(|| command.exchange.clone());
    headers
        .entry(header::ROUTING_KEY.to_owned())
        .or_insert_with(|| command.routing_key.clone());
    headers
}

fn reply_message(reply: &Reply, command: &Incoming, body: Vec<u8>) -> Outgoing {
    Outgoing {
        message_id: reply.id.to_string(),
        message_type: reply.command_type.clone().unwrap_or_default(),
        correlation_id: command.correlation_id.clone(),
        body,
        ..Outgoing::default()
    }
}

fn reply_key(reply: &Reply) -> String {
    let session = reply
        .session
        .as_ref()
        .map_or(UNREAD, |session| session.as_str());
    let known = known_type(reply).unwrap_or(UNREAD);
    format!("{session}.{known}.{}", reply.status.as_str())
}

/// The command's type, if it is a known one. Any other may hold anything, and a routing key is limited to
/// 255 bytes.
pub(super) fn known_type(reply: &Reply) -> Option<&'static str> {
    let name = reply.command_type.as_deref()?;
    name.parse::<CommandType>().ok().map(CommandType::as_str)
}

/// Directly into the endpoint's queue. If that queue is gone, the message is not needed any more.
fn test_message(test: &WebhookNotice, names: &Names) -> Outgoing {
    Outgoing {
        routing_key: names.webhook(&test.payload.webhook),
        message_id: test.id.to_string(),
        message_type: test.event.as_str().to_owned(),
        body: json(test),
        ..Outgoing::default()
    }
}

/// Our own types can always be serialized: their keys are strings and their numbers are finite.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_goes_to_any_queue_but_our_own() {
        let names = Names::new("groupmq");
        let goes = |queue: &str| {
            let command = Incoming {
                reply_to: Some(queue.to_owned()),
                ..Incoming::default()
            };
            reply_queue(&command, &names).is_some()
        };
        for queue in [
            "amq.gen-x",
            "amq.rabbitmq.reply-to.g1h2",
            "shop",
            "groupmq-shop",
            "groupmq",
        ] {
            assert!(goes(queue), "{queue}");
        }
        let presence = names.presence();
        for queue in [
            names.shard(0),
            names.webhook("a"),
            names.dead_commands(),
            presence,
        ] {
            assert!(!goes(&queue), "{queue}");
        }
    }

    #[test]
    fn headers_that_are_instructions_to_the_broker_are_not_passed_on() {
        let names = ["CC", "BCC", "x-death", "x-delay", "tenant", "cc"];
        let header = |name: &str| (name.to_owned(), "elsewhere".to_owned());
        let command = Incoming {
            headers: names.map(header).into(),
            ..Incoming::default()
        };
        let kept = own_headers(&command);
        let foreign = kept.keys().filter(|name| !name.starts_with("groupmq-"));
        assert_eq!(foreign.collect::<Vec<_>>(), ["cc", "tenant"]);
    }
}

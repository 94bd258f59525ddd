//! The messages that the webhooks role publishes: deferred deliveries, dead letters, and notices about
//! endpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::amqp::{Incoming, Names, Outgoing, header};
use crate::contract::{NoticeName, Timestamp, WebhookNotice, WebhookNoticePayload};
use crate::store::endpoints::Endpoint;

/// The UUIDv5 namespaces of notices, and of events that arrived without an id.
const NOTICES: Uuid = Uuid::from_u128(0x2c3f_3e5b_58a4_5c0b_9a39_7f0f_3b8d_6e21);
const NAMELESS: Uuid = Uuid::from_u128(0x7a0d_94b1_10f2_5b6e_8f3c_1d55_9c1a_4e90);

/// The maximum length of a reason: headers must fit into one AMQP frame.
const REASON_BYTES: usize = 2_000;

/// The state of a delivery, which is carried in the headers of a deferred message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DeliveryState {
    /// The number of attempts that count.
    pub(super) attempts: u32,
    /// The number of consecutive deferrals that do not count as attempts.
    pub(super) deferrals: u32,
    /// The time of the first attempt.
    pub(super) first_seen: Option<Timestamp>,
    /// The earliest time of the next attempt.
    pub(super) not_before: Option<Timestamp>,
}

impl DeliveryState {
    /// Reads the state from a message that comes back from a delay queue. Any other message has none: headers of
    /// that name were not set by us.
    pub(super) fn from_message(message: &Incoming, names: &Names) -> Self {
        if message.exchange != names.back() {
            return Self::default();
        }
        let text = |name: &str| message.headers.get(name).map(String::as_str);
        let number = |name: &str| text(name).and_then(|text| text.parse().ok());
        let time = |name: &str| text(name).and_then(|text| text.parse().ok()).map(Timestamp);
        Self {
            attempts: number(header::ATTEMPTS).unwrap_or_default(),
            deferrals: number(header::DEFERRALS).unwrap_or_default(),
            first_seen: time(header::FIRST_SEEN),
            not_before: time(header::NOT_BEFORE),
        }
    }

    /// The time since the first attempt began.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        self.first_seen.map_or(Duration::ZERO, |first| {
            Duration::try_from(now.0.duration_since(first.0)).unwrap_or_default()
        })
    }

    /// The remaining time until the next attempt; none if it is due.
    pub(super) fn remaining_wait(&self, now: Timestamp) -> Option<Duration> {
        let until = self.not_before?;
        Duration::try_from(until.0.duration_since(now.0))
            .ok()
            .filter(|left| !left.is_zero())
    }
}

/// The event's id, which is the delivery's too.
pub(super) fn event_id(message: &Incoming) -> String {
    // Only messages that another program publishes to the events exchange can lack an id.
    let made = || Uuid::new_v5(&NAMELESS, &message.body).to_string();
    let given = message.message_id.as_ref().filter(|id| !id.is_empty());
    given.cloned().unwrap_or_else(made)
}

/// A deferred delivery: goes to a delay queue, from which it returns to its endpoint's queue.
pub(super) fn deferred(
    message: &Incoming,
    endpoint: &str,
    state: &DeliveryState,
    tier: Duration,
    names: &Names,
) -> Outgoing {
    let mut headers = headers(message);
    let mut set = |name: &str, value: String| headers.insert(name.to_owned(), value);
    set(header::ATTEMPTS, state.attempts.to_string());
    set(header::DEFERRALS, state.deferrals.to_string());
    if let Some(first_seen) = state.first_seen {
        set(header::FIRST_SEEN, first_seen.0.to_string());
    }
    if let Some(not_before) = state.not_before {
        set(header::NOT_BEFORE, not_before.0.to_string());
    }
    Outgoing {
        exchange: names.delay(tier),
        routing_key: Names::back_to_webhook(endpoint),
        headers,
        ..copy_of(message)
    }
}

/// A dead letter.
pub(super) fn dead_letter(
    message: &Incoming,
    endpoint: &str,
    state: &DeliveryState,
    reason: &str,
    names: &Names,
    now: Timestamp,
) -> Outgoing {
    let end = reason.floor_char_boundary(REASON_BYTES);
    let mut headers = headers(message);
    let mut set = |name: &str, value: String| headers.insert(name.to_owned(), value);
    set(header::WEBHOOK, endpoint.to_owned());
    set(
        header::EVENT,
        message.message_type.clone().unwrap_or_default(),
    );
    set(
        header::REASON,
        reason.get(..end).unwrap_or_default().to_owned(),
    );
    set(header::ATTEMPTS, state.attempts.to_string());
    set(
        header::FIRST_SEEN,
        state.first_seen.unwrap_or(now).to_string(),
    );
    Outgoing {
        exchange: names.dead(),
        routing_key: Names::DEAD_WEBHOOKS.to_owned(),
        headers,
        mandatory: true,
        ..copy_of(message)
    }
}

/// A notice about an endpoint. Its id is the same in every process that publishes it.
pub(super) fn notice(
    endpoint: &Endpoint,
    event: NoticeName,
    reason: &str,
    names: &Names,
    now: Timestamp,
) -> Outgoing {
    let (name, epoch) = (&endpoint.name, endpoint.breaker.epoch);
    let identity = format!("{name}\n{}\n{epoch}\n{}", event.as_str(), endpoint.revision);
    let id = Uuid::new_v5(&NOTICES, identity.as_bytes());
    let notice = WebhookNotice {
        id,
        timestamp: now.0.as_millisecond(),
        event,
        session: endpoint.session.clone(),
        payload: WebhookNoticePayload {
            webhook: name.clone(),
            reason: reason.to_owned(),
        },
    };
    let session = endpoint.session.as_ref().map_or("~", |it| it.as_str());
    Outgoing {
        exchange: names.events(),
        routing_key: format!("{session}.{}", event.as_str()),
        message_id: id.to_string(),
        message_type: event.as_str().to_owned(),
        // Serialising our own types cannot fail.
        body: serde_json::to_vec(&notice).unwrap_or_default(),
        ..Outgoing::default()
    }
}

fn copy_of(message: &Incoming) -> Outgoing {
    Outgoing {
        message_id: event_id(message),
        message_type: message.message_type.clone().unwrap_or_default(),
        correlation_id: message.correlation_id.clone(),
        body: message.body.clone(),
        ..Outgoing::default()
    }
}

/// The event's headers, without the broker's and without ours from earlier deferrals.
fn headers(message: &Incoming) -> BTreeMap<String, String> {
    let mut headers = message.headers.clone();
    headers.retain(|name, _| !header::is_for_the_broker(name) && !name.starts_with("groupmq-"));
    headers
}

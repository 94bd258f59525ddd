//! Settles the messages that were in flight when the broker closed a connection over one of them.
//!
//! Each is offered alone (`trial`), those of a batch in order; the connection serves new messages
//! meanwhile. A message that is given up is counted, logged once, and handled by kind:
//! - a reply to `reply_to` is dropped: it is on the replies exchange as well;
//! - a delivery to a webhook becomes a dead letter of webhooks, anything else one of commands, with the
//!   broker's reason and the original destination;
//! - a dead letter is published again without body and foreign headers, which are all that a producer can
//!   influence; one that was reduced before is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::observability::events::{self, Lost};

use crate::amqp::message::{Outgoing, header};
use crate::amqp::publish::batch::{Batch, unconfirmed};
use crate::amqp::publish::nacks::NACK_PAUSE;
use crate::amqp::publish::refusing::Refusing;
use crate::amqp::publish::trial::{Trials, Verdict};
use crate::amqp::{Names, Refusal};

/// The fault code of dead letters over which the broker closed a connection.
pub const BROKER_REFUSED: &str = "BROKER_REFUSED";

/// Settles the messages that were in flight when a connection was closed.
#[derive(Debug, Clone)]
pub(in crate::amqp) struct Fate {
    pub(in crate::amqp) trials: Trials,
    pub(in crate::amqp) refusing: Refusing,
    pub(in crate::amqp) names: Names,
    pub(in crate::amqp) clock: Arc<dyn Clock>,
    pub(in crate::amqp) lifecycle: Lifecycle,
}

impl Fate {
    /// Records that the broker confirmed a whole batch.
    pub(in crate::amqp) fn note(&self, batch: &Batch) {
        self.refusing.takes(batch);
        self.trials
            .note(batch.entries().iter().map(|it| &it.message));
    }

    /// Settles a batch that was in flight when its connection was closed.
    pub(in crate::amqp) fn settle(&self, batch: Batch, careful: bool) {
        let fate = self.clone();
        let died = Instant::now();
        self.lifecycle.spawn(async move {
            for entry in unconfirmed(batch.entries()) {
                let Some(()) = fate.settle_one(&entry.message, careful, died).await else {
                    // The batch is dropped without its confirmation.
                    return;
                };
            }
            batch.finish();
        });
    }

    /// None when the process ends first.
    async fn settle_one(&self, message: &Outgoing, careful: bool, died: Instant) -> Option<()> {
        let mut next = Some((message.clone(), careful, Some(died)));
        while let Some((message, careful, died)) = next.take() {
            let Some(refusal) = self.offer(&message, careful, died).await? else {
                continue;
            };
            let kind = kind(&message, &self.names);
            events::message_given_up(kind, &message.message_id, refusal.code, &refusal.text);
            let now = self.clock.now().to_string();
            let letter = dead_letter(kind, message, &refusal, &self.names, now);
            if letter.is_some() {
                events::lost_message_kept(kind, BROKER_REFUSED);
            }
            next = letter.map(|letter| (letter, true, None));
        }
        Some(())
    }

    /// Offers a message until the broker confirms it or closes the connection over it (the reason). None
    /// when the process ends first.
    async fn offer(
        &self,
        message: &Outgoing,
        careful: bool,
        died: Option<Instant>,
    ) -> Option<Option<Refusal>> {
        let begun = Instant::now();
        let is_reply = kind(message, &self.names) == Lost::Reply;
        loop {
            match self.trials.offer(message.clone(), died).await? {
                Verdict::Confirmed => return Some(None),
                Verdict::GivenUp(refusal) => return Some(Some(refusal)),
                Verdict::Returned if !careful => {
                    events::reply_returned(&message.message_id);
                    return Some(None);
                }
                Verdict::Returned => {
                    events::message_unroutable(&message.exchange, &message.routing_key);
                }
                Verdict::Nacked => {
                    events::messages_refused();
                    if is_reply && self.refusing.gives_up(message, begun.elapsed()) {
                        events::reply_refused(&message.message_id);
                        return Some(None);
                    }
                }
            }
            tokio::time::sleep(NACK_PAUSE).await;
        }
    }
}

/// The kind of a message, by its exchange and routing key.
fn kind(message: &Outgoing, names: &Names) -> Lost {
    let key = message.routing_key.as_str();
    if message.exchange == names.dead() {
        Lost::DeadLetter
    } else if message.exchange == names.events() {
        Lost::Event
    } else if message.exchange == names.replies() {
        Lost::ReplyCopy
    } else if endpoint(message, names).is_some() {
        Lost::Webhook
    } else if message.exchange.is_empty() && !names.is_own(key) {
        Lost::Reply
    } else {
        Lost::Command
    }
}

/// The webhook endpoint of a message: directly into its queue, or over a delay queue.
fn endpoint<'a>(message: &'a Outgoing, names: &Names) -> Option<&'a str> {
    let before = if message.exchange.is_empty() {
        names.webhook("")
    } else {
        Names::back_to_webhook("")
    };
    message.routing_key.strip_prefix(&before)
}

/// The dead letter for a message that is given up; none when nothing can be kept.
fn dead_letter(
    kind: Lost,
    message: Outgoing,
    refusal: &Refusal,
    names: &Names,
    now: String,
) -> Option<Outgoing> {
    if kind == Lost::DeadLetter {
        return shed(message);
    }
    if kind == Lost::Reply {
        return None;
    }
    let is_ours = [Lost::Event, Lost::ReplyCopy].contains(&kind);
    let reason = format!(
        "the broker closed the connection because of it ({}): {}",
        refusal.code, refusal.text
    );
    let mut headers = message.headers.clone();
    let mut set = |name: &str, value: &str| headers.insert(name.to_owned(), value.to_owned());
    set(header::CODE, BROKER_REFUSED);
    set(header::REASON, &reason);
    if let Some(endpoint) = endpoint(&message, names) {
        set(header::WEBHOOK, endpoint);
        set(header::EVENT, &message.message_type);
    } else if is_ours {
        set(header::EXCHANGE, &message.exchange);
        set(header::ROUTING_KEY, &message.routing_key);
    }
    let exchange = headers.get(header::EXCHANGE);
    // A producer's header of this name must not cause the replay of its command to be published as an
    // event.
    if !is_ours && exchange.is_some_and(|it| *it != names.commands()) {
        headers.insert(header::EXCHANGE.to_owned(), String::new());
    }
    headers.entry(header::FIRST_SEEN.to_owned()).or_insert(now);
    let key = if kind == Lost::Webhook {
        Names::DEAD_WEBHOOKS
    } else {
        Names::DEAD_COMMANDS
    };
    let letter = Outgoing {
        exchange: names.dead(),
        routing_key: key.to_owned(),
        headers,
        mandatory: true,
        ..message
    };
    Some(match kind {
        Lost::Command => letter.without_picture(None),
        _ => letter,
    })
}

/// A dead letter without foreign headers and body; none if they were removed before.
fn shed(letter: Outgoing) -> Option<Outgoing> {
    let mut headers: BTreeMap<_, _> = letter.headers.clone();
    headers.retain(|name, _| name.starts_with("groupmq-"));
    let is_shed = letter.body.is_empty() && headers == letter.headers;
    (!is_shed).then(|| Outgoing {
        body: Vec::new(),
        headers,
        ..letter
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn names() -> Names {
        Names::new("groupmq")
    }

    fn message(exchange: String, key: &str) -> Outgoing {
        Outgoing {
            exchange,
            routing_key: key.to_owned(),
            message_id: "m".to_owned(),
            message_type: "group.v2.join".to_owned(),
            body: b"{}".to_vec(),
            ..Outgoing::default()
        }
    }

    fn kept(message: Outgoing) -> Option<Outgoing> {
        let refusal = Refusal {
            code: 406,
            text: "PRECONDITION_FAILED".to_owned(),
        };
        let kind = kind(&message, &names());
        dead_letter(kind, message, &refusal, &names(), NOW.to_owned())
    }

    #[test]
    fn a_reply_that_is_given_up_is_dropped_since_its_copy_is_on_the_exchange() {
        for queue in ["shop", "amq.rabbitmq.reply-to.g2.x", "groupmq-shop", ""] {
            assert_eq!(kept(message(String::new(), queue)), None, "{queue}");
        }
    }

    #[test]
    fn what_we_publish_for_all_consumers_is_kept_with_its_destination() {
        for exchange in [names().events(), names().replies()] {
            let letter = kept(message(exchange.clone(), "default.group.v2.join")).unwrap();
            assert_eq!(letter.exchange, "groupmq.dead");
            assert_eq!(letter.routing_key, "commands");
            assert_eq!(
                (letter.message_id.as_str(), &letter.body[..]),
                ("m", &b"{}"[..])
            );
            let header = |name: &str| letter.headers[name].clone();
            assert_eq!(header(header::CODE), "BROKER_REFUSED");
            assert!(header(header::REASON).contains("406"));
            assert_eq!(header(header::EXCHANGE), exchange);
            assert_eq!(header(header::ROUTING_KEY), "default.group.v2.join");
            assert_eq!(header(header::FIRST_SEEN), NOW);
        }
    }

    #[test]
    fn a_delivery_to_a_webhook_is_kept_for_its_endpoint() {
        let (delay, queue) = (
            names().delay(Duration::from_secs(1)),
            names().webhook("a.b"),
        );
        let deferred = message(delay, &Names::back_to_webhook("a.b"));
        for delivery in [deferred, message(String::new(), &queue)] {
            let letter = kept(delivery).unwrap();
            assert_eq!(letter.routing_key, "webhooks");
            assert_eq!(letter.headers[header::WEBHOOK], "a.b");
            assert_eq!(letter.headers[header::EVENT], "group.v2.join");
        }
    }

    #[test]
    fn a_deferred_command_is_kept_and_its_producers_exchange_header_is_not_trusted() {
        let mut deferred = message(names().delay(Duration::from_secs(1)), "default");
        let first = "2026-11-20T10:00:00Z";
        for (name, value) in [
            (header::EXCHANGE, "groupmq.events"),
            (header::FIRST_SEEN, first),
        ] {
            deferred.headers.insert(name.to_owned(), value.to_owned());
        }
        let letter = kept(deferred).unwrap();
        assert_eq!(letter.routing_key, "commands");
        assert_eq!(letter.headers[header::EXCHANGE], "");
        assert_eq!(letter.headers[header::FIRST_SEEN], first);
    }

    #[test]
    fn a_dead_letter_loses_what_others_put_into_it_and_then_it_is_dropped() {
        let mut letter = message(names().dead(), "commands");
        for name in ["tenant", header::CODE] {
            letter.headers.insert(name.to_owned(), "x".to_owned());
        }
        let shed = kept(letter).unwrap();
        assert!(shed.body.is_empty());
        assert_eq!(shed.headers.keys().collect::<Vec<_>>(), [header::CODE]);
        assert_eq!(shed.message_id, "m");
        assert_eq!(kept(shed), None);
    }
}

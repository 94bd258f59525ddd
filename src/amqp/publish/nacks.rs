//! Messages that the broker does not take: when they are offered again, and when their channel is given up.

use std::time::Duration;

use tokio::time::Instant;

use crate::observability::events;

use crate::amqp::Error;

/// The pause before a message that the broker did not take is offered again.
pub(in crate::amqp) const NACK_PAUSE: Duration = Duration::from_millis(500);

/// A channel over which messages are still refused this long after the first refusal is given up. RabbitMQ
/// 3.10 looks up the leader of a quorum queue once, when a channel first publishes to it; a channel that
/// saw a dead leader refuses permanently. A full queue refuses on any channel, which costs no more than a
/// new connection now and then.
pub(in crate::amqp) const REFUSED_FOR: Duration = Duration::from_secs(3);

/// Records a refusal: logged once per channel, and an error after a while.
pub(in crate::amqp) fn refusal(first: &mut Option<Instant>) -> Result<(), Error> {
    let at = *first.get_or_insert_with(|| {
        events::broker_refuses();
        Instant::now()
    });
    if at.elapsed() > REFUSED_FOR {
        return Err(Error::NotTaken(REFUSED_FOR));
    }
    Ok(())
}

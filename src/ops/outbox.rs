//! Publishing what an engine told of by itself: from the store to the broker, in order, until the
//! broker has confirmed it; only then it is forgotten. A broker that is away makes it wait.
//!
//! One worker at a time does it. Should two do it for a moment, each begins with what was not
//! confirmed, in the same order, so whoever drops repetitions sees that order.

use std::time::Duration;

use crate::amqp::{Names, Outgoing, Publisher};
use crate::observability::events;
use crate::store::pending_events::{Pending, PendingEvents};
use crate::store::{Error, Store};

/// Events that are published together.
const BATCH: u32 = 256;

/// How often events of other workers are looked for, and the right to publish is renewed.
const LOOK: Duration = Duration::from_secs(1);

/// For how long the right to publish lasts.
const LEASE: Duration = Duration::from_secs(6);

/// Publishes until the process ends.
pub async fn publish(store: Store, pending: PendingEvents, publisher: Publisher, names: Names) {
    loop {
        let waiting = async {
            if pending.lease("events", LEASE).await? {
                pending.first(BATCH).await
            } else {
                Ok(Vec::new())
            }
        };
        let batch: Vec<Pending> = match waiting.await {
            Ok(batch) => batch,
            Err(error) => {
                pause(&store, &error).await;
                continue;
            }
        };
        if batch.is_empty() {
            events::events_pending(0);
            // Either way the store is asked again; nothing is lost.
            tokio::select! {
                () = pending.added() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            continue;
        }
        if let Ok(count) = pending.count().await {
            events::events_pending(count);
        }
        let messages = batch.iter().map(|it| Outgoing {
            headers: it.headers.clone(),
            ..Outgoing::event(&it.event, &names)
        });
        if publisher.publish(messages.collect()).await.is_err() {
            // Stopped before the broker confirmed: they are in the store, for the next worker.
            return;
        }
        events::events_published(batch.len());
        while let Err(error) = pending.confirmed(&batch).await {
            pause(&store, &error).await;
        }
    }
}

/// After a failure of the store: until it is over, or it is our turn to try.
async fn pause(store: &Store, error: &Error) {
    if error.is_outage() {
        drop(store.over().await);
    } else {
        events::store_refused(error);
        tokio::time::sleep(LOOK).await;
    }
}

//! Publishing what an engine told of by itself: from the store to the broker, in order, until the
//! broker has confirmed it; only then it is forgotten. A broker that is away makes it wait.
//!
//! One worker at a time does it. Should two do it for a moment, each begins with what was not
//! confirmed, in the same order, so whoever drops repetitions sees that order.

use std::time::Duration;

use crate::amqp::{Names, Outgoing, Publisher};
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::store::pending_events::{PendingEvent, PendingEvents};
use crate::store::{Error, Store};

/// Events that are published together.
const BATCH: u32 = 256;

/// How often events of other workers are looked for, and the right to publish is renewed.
const LOOK: Duration = Duration::from_secs(1);

/// For how long the right to publish lasts.
const LEASE: Duration = Duration::from_secs(6);

/// Publishes until the process is asked to finish. Then it ends between two batches: what waits is in
/// the store, for the next worker, and as long as this could still publish, the way to the broker
/// would stay open.
pub async fn publish(
    store: Store,
    pending: PendingEvents,
    publisher: Publisher,
    names: Names,
    lifecycle: Lifecycle,
) {
    // What is dropped at a stop is a look into the store, or the waiting for it: nothing is lost.
    while let Some(batch) = unless_stopping(&lifecycle, next(&store, &pending)).await {
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
            // Whoever is stopped here has them published twice, as a crash would.
            if unless_stopping(&lifecycle, pause(&store, &error))
                .await
                .is_none()
            {
                return;
            }
        }
    }
}

/// None once the process is asked to finish.
async fn unless_stopping<T>(lifecycle: &Lifecycle, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = lifecycle.stopping() => None,
        done = work => Some(done),
    }
}

/// The next events to publish, once there are any and it is ours to do.
async fn next(store: &Store, pending: &PendingEvents) -> Vec<PendingEvent> {
    let leases = store.leases();
    loop {
        let waiting = async {
            if leases.acquire("events", LEASE).await? {
                pending.oldest(BATCH).await
            } else {
                Ok(Vec::new())
            }
        };
        match waiting.await {
            Ok(batch) if batch.is_empty() => {
                events::events_pending(0);
                // Either way the store is asked again; nothing is lost.
                tokio::select! {
                    () = pending.events_added() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
            Ok(batch) => return batch,
            Err(error) => pause(store, &error).await,
        }
    }
}

/// After a failure of the store: until it is over, or it is our turn to try.
async fn pause(store: &Store, error: &Error) {
    if error.is_outage() {
        drop(store.wait_for_recovery().await);
    } else {
        events::store_refused(error);
        tokio::time::sleep(LOOK).await;
    }
}

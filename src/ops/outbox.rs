//! The outbox: publishes the stored events of an engine in order, and deletes them once the broker has
//! confirmed them. While the broker is down, the events wait.
//!
//! One worker at a time publishes. If two do for a moment, each begins with the unconfirmed events, in the
//! same order, so consumers that drop duplicates see that order.

use std::time::Duration;

use crate::amqp::{Names, Outgoing, Publisher};
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::store::pending_events::{PendingEvent, PendingEvents};
use crate::store::{Error, Store};

/// The number of events that are published together.
const BATCH: u32 = 256;

/// The interval of checking for events of other workers, and of renewing the lease.
const LOOK: Duration = Duration::from_secs(1);

/// The duration of the lease.
const LEASE: Duration = Duration::from_secs(6);

/// Publishes until the process is asked to finish. Then it ends between two batches: the other events stay
/// in the store for the next worker, and a publisher that still had work would keep the connection to the
/// broker open.
pub async fn publish(
    store: Store,
    pending: PendingEvents,
    publisher: Publisher,
    names: Names,
    lifecycle: Lifecycle,
) {
    // A stop drops only a query, or the wait for the store: nothing is lost.
    while let Some(batch) = unless_stopping(&lifecycle, next(&store, &pending)).await {
        if let Ok(size) = pending.size().await {
            events::events_pending(size);
        }
        let messages = batch.iter().map(|it| Outgoing {
            headers: it.headers.clone(),
            ..Outgoing::event(&it.event, &names)
        });
        if publisher.publish(messages.collect()).await.is_err() {
            // Stopped before the broker confirmed: the events are in the store for the next worker.
            return;
        }
        events::events_published(batch.len());
        while let Err(error) = pending.confirmed(&batch).await {
            // A stop here publishes them twice, as a crash would.
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

/// The next events to publish, once there are any and this worker has the lease.
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
                // Either branch leads to another query; nothing is lost.
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

/// After a failure of the store: waits until the outage is over, or it is our turn to retry.
async fn pause(store: &Store, error: &Error) {
    if error.is_outage() {
        drop(store.wait_for_recovery().await);
    } else {
        events::store_refused(error);
        tokio::time::sleep(LOOK).await;
    }
}

//! Sizes of tables that may be very large, for gauges: from the ends of an index.

use super::{both, sqlite};
use crate::store::pending_events::SIZE;

#[tokio::test]
async fn pending_events_are_measured_as_they_come_and_go() {
    for database in both() {
        let store = database.open().await;
        let pending = store.pending_events();
        assert_eq!(pending.size().await.unwrap(), 0);
        for _ in 0..5 {
            let add = "INSERT INTO pending_events (event, headers) VALUES ('{}', '{}')";
            store.batcher.raw(add).await.unwrap();
        }
        assert_eq!(pending.size().await.unwrap(), 5);
        let publish = "DELETE FROM pending_events WHERE position <= 3";
        store.batcher.raw(publish).await.unwrap();
        assert_eq!(pending.size().await.unwrap(), 2);
        store
            .batcher
            .raw("DELETE FROM pending_events")
            .await
            .unwrap();
        assert_eq!(pending.size().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn no_event_is_read_to_measure_how_many_there_are() {
    let database = sqlite();
    let store = database.open().await;
    let sql = format!("EXPLAIN QUERY PLAN {SIZE}");
    let rows = store
        .pool
        .fetch("explaining", sql, Vec::new())
        .await
        .unwrap();
    let steps: Vec<String> = rows.iter().map(|row| row.get(3).unwrap()).collect();
    let reads: Vec<_> = steps
        .iter()
        .filter(|step| step.contains("pending_events"))
        .collect();
    assert_eq!(reads, ["SEARCH pending_events"; 2], "{steps:?}");
}

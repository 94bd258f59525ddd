//! SIGTERM for a worker on WAHA: it ends in order, as any other does.

use crate::behaviour::stage::{Kind, Stage};

#[tokio::test]
async fn a_worker_on_waha_that_has_nothing_to_do_ends_in_order() {
    let mut stage = Stage::new(Kind::Gows).await;
    // Its events go through the outbox, which has published by then.
    let group = stage.group("Stopping", &["491700000001@c.us"]).await;
    stage.events("default", &group, 1).await;
    let worker = &mut stage.scene.worker;
    assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
    let log = worker.log();
    assert!(!log.contains("the stop took too long"), "{log}");
}

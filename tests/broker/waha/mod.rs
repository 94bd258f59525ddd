//! The `waha` engine beside what `behaviour` shows: what goes wrong, what WAHA tells by itself, and
//! workers that are killed.

mod absence;
mod answers;
mod bounds;
mod captured;
mod desired;
mod failures;
mod faults;
mod health;
mod intake;
mod joining;
mod kills;
mod missed;
mod names;
mod pictures;
mod settings;
mod socket;
mod stopping;
mod stored;

use groupmq_test_support::worker::Worker;

/// A sum of a metric's series; `series` as they begin in the exposition.
async fn metric(worker: &Worker, series: &str) -> u64 {
    let (status, text) = worker.get("/metrics").await.unwrap();
    assert_eq!(status, 200, "{text}");
    let lines = text.lines().filter(|line| line.starts_with(series));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    // What is counted is whole.
    let whole = values.map(|value| format!("{value:.0}").parse::<u64>().unwrap());
    whole.sum()
}

/// How many events came by webhook and had this outcome.
async fn webhooks(worker: &Worker, outcome: &str) -> u64 {
    let series = format!("groupmq_waha_events_total{{source=\"webhook\",outcome=\"{outcome}\"}}");
    metric(worker, &series).await
}

//! A timer that is finer than those of the runtime, which are up to two milliseconds late: that would be a part of
//! every time that an open loop measures.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A thread that waits for one time after the other. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Alarm {
    times: mpsc::Sender<Instant>,
    /// The time that was handed over last.
    set: Option<Instant>,
    rang: Arc<Notify>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let (times, wanted) = mpsc::channel();
        let rang = Arc::new(Notify::new());
        let ringing = Arc::clone(&rang);
        thread::Builder::new()
            .name("alarm".to_owned())
            .spawn(move || ring(&wanted, &ringing))?;
        Ok(Self {
            times,
            set: None,
            rang,
        })
    }

    /// Waits until a time, which replaces the one before; may return earlier.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn until(&mut self, time: Instant) {
        if self.set != Some(time) {
            self.set = Some(time);
            // The thread lives as long as this.
            self.times.send(time).ok();
        }
        self.rang.notified().await;
    }
}

fn ring(wanted: &mpsc::Receiver<Instant>, rang: &Notify) {
    let mut next = wanted.recv().ok();
    while let Some(time) = next {
        let left = time.saturating_duration_since(Instant::now());
        next = match wanted.recv_timeout(left) {
            Ok(other) => Some(other),
            Err(RecvTimeoutError::Timeout) => {
                rang.notify_one();
                wanted.recv().ok()
            }
            Err(RecvTimeoutError::Disconnected) => None,
        };
    }
}

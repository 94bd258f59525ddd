//! Starting and stopping: the only place that spawns tasks, and the order in which they end.
//!
//! A first signal asks everything to finish (*soft*); a second one, or the deadline, abandons what
//! still runs (*hard*). A critical task that ends early stops the process with a failure, and so does
//! any task that panics: what it had in hand would have no owner any more, and goes back to the broker
//! with the process.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// Shared handle on the life of the process; clones are cheap.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    failure: Arc<Mutex<Option<String>>>,
}

/// What the process is asked by signal, from the start on: the first process of a container has no signal
/// that ends it unless it listens.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// How the process came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was begun was finished.
    Drained,
    /// The deadline or a second signal cut work off; the broker will deliver it again.
    Abandoned,
    /// A critical task failed; the reason in words.
    Failed(String),
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Resolves when the process is asked to stop, and says how; nothing is lost by dropping it.
    pub async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "asked to terminate",
        }
    }
}

impl Lifecycle {
    /// Resolves when the process is asked to finish.
    pub async fn stopping(&self) {
        self.soft.cancelled().await;
    }

    /// Whether the process has been asked to finish.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Asks everything to finish.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Asks everything to finish, and lets the process end with this failure.
    pub fn fail(&self, reason: impl Into<String>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(reason.into());
        self.soft.cancel();
    }

    /// Runs a task until it ends or the hard stop drops it.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hard = self.hard.clone();
        let guard = PanicGuard(self.clone());
        tokio::spawn(self.tasks.track_future(async move {
            let _guard = guard;
            // Dropping `task` is the point of the hard stop: what it held goes back to the broker.
            tokio::select! {
                () = task => {}
                () = hard.cancelled() => {}
            }
        }))
    }

    /// Runs a task that serves others until the very end and that nobody waits for.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_background<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hard = self.hard.clone();
        let guard = PanicGuard(self.clone());
        tokio::spawn(async move {
            let _guard = guard;
            tokio::select! {
                () = task => {}
                () = hard.cancelled() => {}
            }
        });
    }

    /// Runs a task without which the process is of no use: an early end or a panic stops it all.
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = CriticalGuard {
            name,
            lifecycle: self.clone(),
        };
        self.spawn(async move {
            task.await;
            drop(guard);
        });
    }

    /// Waits for a signal or a failure, then for every task, at most until the deadline.
    pub async fn run_to_end(&self, mut signals: Signals, deadline: Duration) -> Ending {
        // Each of these only reports; none loses anything when another one wins.
        tokio::select! {
            asked = signals.stop() => info!("{asked}; finishing what has been begun"),
            () = self.stopping() => {}
        }
        self.soft.cancel();
        self.tasks.close();
        let drained = tokio::select! {
            () = self.tasks.wait() => true,
            () = tokio::time::sleep(deadline) => {
                warn!(deadline_ms = deadline.as_millis(), "the stop took too long; what still runs is abandoned to redelivery");
                false
            }
            _ = signals.stop() => false,
        };
        self.hard.cancel();
        if let Some(reason) = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            return Ending::Failed(reason);
        }
        if drained {
            Ending::Drained
        } else {
            Ending::Abandoned
        }
    }
}

/// Notices, by being dropped while its task unwinds, that the task panicked.
struct PanicGuard(Lifecycle);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a task panicked; the log says where");
        }
    }
}

/// Notices, by being dropped, that a critical task ended: by return, panic or cancellation alike.
struct CriticalGuard {
    name: &'static str,
    lifecycle: Lifecycle,
}

impl Drop for CriticalGuard {
    fn drop(&mut self) {
        if !self.lifecycle.is_stopping() {
            error!(task = self.name, "a critical task ended; stopping");
            self.lifecycle
                .fail(format!("the task `{}` ended unexpectedly", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_to_end(lifecycle: &Lifecycle, deadline: Duration) -> Ending {
        lifecycle
            .run_to_end(Signals::listen().unwrap(), deadline)
            .await
    }

    #[tokio::test]
    async fn a_critical_task_that_panics_stops_the_process_with_its_name() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn_critical("doomed", async { panic!("as the test wants") });
        let ending = run_to_end(&lifecycle, Duration::from_secs(5)).await;
        assert_eq!(
            ending,
            Ending::Failed("the task `doomed` ended unexpectedly".to_owned())
        );
    }

    #[tokio::test]
    async fn any_task_that_panics_stops_the_process() {
        for spawn in [
            |lifecycle: &Lifecycle| drop(lifecycle.spawn(async { panic!("as the test wants") })),
            |lifecycle: &Lifecycle| {
                lifecycle.spawn_background(async {
                    tokio::task::yield_now().await;
                    panic!("as the test wants")
                });
            },
        ] {
            let lifecycle = Lifecycle::default();
            spawn(&lifecycle);
            let ending = run_to_end(&lifecycle, Duration::from_secs(5)).await;
            let reason = "a task panicked; the log says where".to_owned();
            assert_eq!(ending, Ending::Failed(reason));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_abandons_what_does_not_finish() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn(std::future::pending());
        lifecycle.stop();
        let ending = run_to_end(&lifecycle, Duration::from_secs(25)).await;
        assert_eq!(ending, Ending::Abandoned);
    }

    #[tokio::test]
    async fn work_that_finishes_in_time_drains() {
        let lifecycle = Lifecycle::default();
        let watcher = lifecycle.clone();
        lifecycle.spawn_critical("worker", async move { watcher.stopping().await });
        lifecycle.stop();
        let ending = run_to_end(&lifecycle, Duration::from_secs(5)).await;
        assert_eq!(ending, Ending::Drained);
    }
}

//! Starting and stopping: the only place that spawns tasks, and the order in which they end.
//!
//! The first signal asks every task to finish (*soft*); a second one, or the deadline, abandons the
//! remaining tasks (*hard*). A critical task that ends early stops the process with a failure, and so does
//! any task that panics: its messages would have no owner any more, and are requeued when the process ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// Shared handle on the lifecycle of the process; clones are cheap.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    failure: Arc<Mutex<Option<String>>>,
}

/// The signals to the process, handled from the start on: the first process of a container ignores signals
/// without a handler.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// How the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All work was finished.
    Drained,
    /// The deadline or a second signal abandoned work; the broker redelivers it.
    Abandoned,
    /// A critical task failed, with the reason.
    Failed(String),
}

impl Signals {
    /// Installs the signal handlers.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Resolves when the process is asked to stop, with a description of the signal; cancel-safe.
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
        let mut failure = self.failure.lock();
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
            // Dropping `task` is the purpose of the hard stop: its messages are requeued.
            tokio::select! {
                () = task => {}
                () = hard.cancelled() => {}
            }
        }))
    }

    /// Runs a task that serves others until the process ends, and for which the stop does not wait.
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

    /// Runs a task that the process cannot do without: an early end or a panic stops the process.
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
        // Every branch is cancel-safe.
        tokio::select! {
            asked = signals.stop() => info!("{asked}; finishing the current work"),
            () = self.stopping() => {}
        }
        self.soft.cancel();
        self.tasks.close();
        let drained = tokio::select! {
            () = self.tasks.wait() => true,
            () = tokio::time::sleep(deadline) => {
                warn!(deadline_ms = deadline.as_millis(), "the stop took too long; the remaining work is abandoned, and the broker redelivers it");
                false
            }
            _ = signals.stop() => false,
        };
        self.hard.cancel();
        if let Some(reason) = self.failure.lock().take() {
            return Ending::Failed(reason);
        }
        if drained {
            Ending::Drained
        } else {
            Ending::Abandoned
        }
    }
}

/// Detects a panic of its task, by being dropped while the task unwinds.
struct PanicGuard(Lifecycle);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a task panicked; the log says where");
        }
    }
}

/// Detects the end of a critical task by being dropped: by return, panic or cancellation.
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

//! The log: lines to stderr, without waiting for its reader.
//!
//! The reader of the log may stop reading, or end, and neither may stop a command. So lines pass through a
//! bounded buffer to a thread that writes them; a line that finds the buffer full, or that cannot be
//! written, is dropped and counted. The same holds for the last lines of a process that ends.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use crate::config::{self, LogFormat};

use super::events;
use super::repeats::Repeats;

/// Never logged, whatever the filter: lapin writes returned messages out, body included, and repeats errors
/// that we log ourselves; the pool logs each connection that an outage of the store has cost.
const NEVER: &str = "lapin=off,sqlx_core::pool=warn";

/// The maximum number of lines that wait to be written; less than a megabyte.
const BUFFERED: usize = 2_000;

/// How long a process that ends waits for its log to be written.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// The interval of counting lost lines.
const COUNTED_EVERY: Duration = Duration::from_secs(1);

/// The name of threads whose panics are detected by the owner of the task.
pub const WORKERS: &str = "groupmq";

/// The log of this process; `finish` it before the process ends.
#[derive(Debug)]
pub struct Log {
    writer: WorkerGuard,
    lost: LostLines,
    panicked_elsewhere: CancellationToken,
}

/// Counters of lost log lines, and of repeated lines that were held back; clones share them.
#[derive(Debug, Clone)]
pub struct LostLines {
    not_buffered: ErrorCounter,
    not_written: Arc<AtomicU64>,
    repeats: Repeats,
}

/// Why the log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `log.filter` is not a valid filter.
    #[error("log.filter: {0}")]
    Filter(#[from] ParseError),
    /// There is no stderr.
    #[error("stderr cannot be used for the log")]
    Stderr(#[from] io::Error),
}

/// Starts logging to stderr; stdout is for the output of a command. Panics of all threads are logged and
/// counted.
///
/// # Errors
/// When `log.filter` is invalid, or stderr is closed.
pub fn init(settings: &config::Log) -> Result<Log, Error> {
    let filter = EnvFilter::builder().parse(format!("{},{NEVER}", settings.filter))?;
    // Not `io::stderr()`: a thread that blocks while writing to it would hold its lock.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let not_written = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        stderr,
        not_written: Arc::clone(&not_written),
    };
    let (buffer, writer) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BUFFERED)
        .thread_name("log")
        .finish(lines);
    let lost = LostLines {
        not_buffered: buffer.error_counter(),
        not_written,
        repeats: Repeats::default(),
    };
    let lines = fmt::layer().with_writer(buffer);
    let lines = match settings.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // The last layer is called first.
    registry()
        .with(lines)
        .with(lost.repeats.clone())
        .with(filter)
        .init();
    let panicked_elsewhere = CancellationToken::new();
    let elsewhere = panicked_elsewhere.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or_default();
        events::panicked(place.as_deref().unwrap_or_default(), text);
        if std::thread::current().name() != Some(WORKERS) {
            elsewhere.cancel();
        }
    }));
    Ok(Log {
        writer,
        lost,
        panicked_elsewhere,
    })
}

impl Log {
    /// The counters of lost lines.
    #[must_use]
    pub fn lost(&self) -> LostLines {
        self.lost.clone()
    }

    /// Resolves once a thread has panicked that is not one of the [`WORKERS`], for example a library's:
    /// nothing else detects that, and the service of that thread has ended.
    pub fn panicked_elsewhere(&self) -> impl Future<Output = ()> + Send + 'static {
        self.panicked_elsewhere.clone().cancelled_owned()
    }

    /// Writes the buffered lines, as long as stderr is read.
    pub fn finish(self) {
        // Its drop prints if it fails; that may block, or panic.
        within(LAST_LINES_WITHIN * 2, move || drop(self.writer));
    }
}

impl LostLines {
    /// Counts lost lines as a metric, and logs how often others were repeated; never ends.
    pub async fn count(self) {
        loop {
            tokio::time::sleep(COUNTED_EVERY).await;
            let dropped = u64::try_from(self.not_buffered.dropped_lines()).unwrap_or(u64::MAX);
            let failed = self.not_written.load(Ordering::Relaxed);
            events::log_lines_lost(dropped.saturating_add(failed));
            self.repeats.report();
        }
    }
}

/// Writes the reason for the end of a process to stderr, with a short timeout.
pub fn last_words(text: &str) {
    let line = format!("{text}\n");
    within(LAST_LINES_WITHIN, move || {
        // A failure cannot be reported anywhere.
        io::stderr().lock().write_all(line.as_bytes()).ok();
    });
}

/// Runs work that may block in a separate thread, and waits for it at most for `limit`.
fn within(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::sync_channel::<()>(1);
    let work = move || {
        let _done = done;
        work();
    };
    if std::thread::Builder::new().spawn(work).is_ok() {
        // The channel is disconnected, not used: the work has ended, well or badly.
        is_done.recv_timeout(limit).ok();
    }
}

/// Writes lines, and counts those that cannot be written.
#[derive(Debug)]
struct Lines {
    stderr: File,
    not_written: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.stderr.write_all(line).is_err() {
            self.not_written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_no_failure() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let not_written = Arc::new(AtomicU64::new(0));
        let mut lines = Lines {
            stderr: File::from(std::os::fd::OwnedFd::from(writer)),
            not_written: Arc::clone(&not_written),
        };
        lines.write_all(b"a line\n").unwrap();
        lines.write_all(b"another\n").unwrap();
        assert_eq!(not_written.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_hangs_or_panics_is_not_waited_for() {
        within(Duration::from_millis(10), std::thread::park);
        within(Duration::from_mins(1), || panic!("as the test wants"));
    }
}

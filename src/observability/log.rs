//! The log: lines to stderr, which nothing waits for.
//!
//! Who reads the log may stop reading, or go away, and neither may stop a command. So lines go through a
//! bounded buffer to a thread that writes them; one that finds the buffer full, or that cannot be
//! written, is dropped and counted. The same holds for the last words of a process that ends.

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

/// Never logged, whatever the filter says: lapin writes returned messages out, body included, and tells
/// anew of what we report in our own words; the pool tells of each connection that an outage of the
/// store has cost.
const NEVER: &str = "lapin=off,sqlx_core::pool=warn";

/// Lines that wait to be written, at most; less than a megabyte.
const BUFFERED: usize = 2_000;

/// For how long a process that ends waits for its log to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often the lines that were lost are counted.
const COUNTED_EVERY: Duration = Duration::from_secs(1);

/// What the threads are called in which every panic is noticed by whoever has the task.
pub const WORKERS: &str = "groupmq";

/// The log of this process; to be finished before it ends.
#[derive(Debug)]
pub struct Log {
    writer: WorkerGuard,
    lost: Lost,
    panicked_elsewhere: CancellationToken,
}

/// Log lines that were lost, and those that were held back since they repeat themselves; clones count the same.
#[derive(Debug, Clone)]
pub struct Lost {
    not_buffered: ErrorCounter,
    not_written: Arc<AtomicU64>,
    repeats: Repeats,
}

/// Why the log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `log.filter` is no filter.
    #[error("log.filter: {0}")]
    Filter(#[from] ParseError),
    /// There is no stderr to write to.
    #[error("stderr cannot be used for the log")]
    Stderr(#[from] io::Error),
}

/// Starts logging to stderr, so that stdout stays free for what a command prints. Panics become log
/// lines and are counted, in whichever thread they happen.
///
/// # Errors
/// When `log.filter` is no filter, or stderr is closed.
pub fn init(settings: &config::Log) -> Result<Log, Error> {
    let filter = EnvFilter::builder().parse(format!("{},{NEVER}", settings.filter))?;
    // Not `io::stderr()`: a thread that hangs in writing to it would hold its lock.
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
    let lost = Lost {
        not_buffered: buffer.error_counter(),
        not_written,
        repeats: Repeats::default(),
    };
    let lines = fmt::layer().with_writer(buffer);
    let lines = match settings.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // The first to be asked is the last one here.
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
    /// The lines that were lost, to be counted.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost.clone()
    }

    /// Resolves once a thread has panicked that is none of the [`WORKERS`], a library's say: nobody else
    /// notices that, and what it served stands still.
    pub fn panicked_elsewhere(&self) -> impl Future<Output = ()> + Send + 'static {
        self.panicked_elsewhere.clone().cancelled_owned()
    }

    /// Has what is buffered written, as far as somebody reads it.
    pub fn finish(self) {
        // Its drop prints where it cannot have its way; that may hang, or panic, by itself.
        within(LAST_WORDS * 2, move || drop(self.writer));
    }
}

impl Lost {
    /// Counts lost lines as a metric, and tells how often others repeat themselves; never ends.
    pub async fn count(self) {
        loop {
            tokio::time::sleep(COUNTED_EVERY).await;
            let dropped = u64::try_from(self.not_buffered.dropped_lines()).unwrap_or(u64::MAX);
            let failed = self.not_written.load(Ordering::Relaxed);
            events::log_lines_lost(dropped.saturating_add(failed));
            self.repeats.tell();
        }
    }
}

/// Writes to stderr what ends a process, and waits for that only for a moment.
pub fn last_words(text: &str) {
    let line = format!("{text}\n");
    within(LAST_WORDS, move || {
        // There is nobody to report a failure to.
        io::stderr().lock().write_all(line.as_bytes()).ok();
    });
}

/// Does something that may hang, in a thread of its own, and waits for so long at most.
fn within(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::sync_channel::<()>(1);
    let work = move || {
        let _done = done;
        work();
    };
    if std::thread::Builder::new().spawn(work).is_ok() {
        // Disconnected, not received: the work is over, well or badly.
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

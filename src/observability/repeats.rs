//! Repeated failures are logged at once, and then every 30 seconds with their number: one rule for all
//! warnings and errors.
//!
//! Two lines are the same when their place in the code, message and fields are, except for the fields that
//! vary with each attempt. Another reason, endpoint or command makes another line.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, error, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How long repetitions of a line are held back.
const SILENCE: Duration = Duration::from_secs(30);

/// The maximum number of different lines that are remembered; beyond that, each one is logged.
const LINES_MAX: usize = 1_000;

/// Fields that vary with each attempt.
const VARYING: [&str; 6] = [
    "attempt",
    "wait_ms",
    "since_ms",
    "failures",
    "count",
    "duration_ms",
];

/// The target of the lines with the number of repetitions, which are not held back.
const REPEATED: &str = "groupmq::repeated";

/// Holds back repeated lines; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats {
    // A std mutex: held for a map operation and never across an await.
    seen: Arc<Mutex<HashMap<String, Seen>>>,
}

#[derive(Debug)]
struct Seen {
    level: Level,
    at: Instant,
    /// The number of repetitions since then.
    times: u64,
}

impl Repeats {
    /// Logs the number of repetitions that were held back; to be called every second or so.
    pub(super) fn report(&self) {
        let mut due = Vec::new();
        self.lines().retain(|line, seen| {
            if seen.at.elapsed() < SILENCE {
                return true;
            }
            let times = std::mem::take(&mut seen.times);
            seen.at = Instant::now();
            if times > 0 {
                due.push((seen.level, line.clone(), times));
            }
            times > 0
        });
        for (level, line, times) in due {
            if level == Level::ERROR {
                error!(target: REPEATED, times, "still: {line}");
            } else {
                warn!(target: REPEATED, times, "still: {line}");
            }
        }
    }

    /// Whether a line is logged now.
    fn admits(&self, level: Level, line: String) -> bool {
        let mut known = self.lines();
        if let Some(seen) = known.get_mut(&line)
            && seen.at.elapsed() < SILENCE
        {
            seen.times += 1;
            return false;
        }
        if known.len() < LINES_MAX {
            let at = Instant::now();
            let times = 0;
            known.insert(line, Seen { level, at, times });
        }
        true
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock()
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // More verbose levels are greater.
        if *metadata.level() > Level::WARN || metadata.target() == REPEATED {
            return true;
        }
        let mut line = Line::default();
        event.record(&mut line);
        self.admits(*metadata.level(), line.words + &line.fields)
    }
}

/// A line, without the fields that vary with each attempt.
#[derive(Debug, Default)]
struct Line {
    words: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        // Writing to a string cannot fail.
        if name == "message" {
            write!(self.words, "{value:?}").unwrap_or_default();
        } else if !VARYING.contains(&name) {
            write!(self.fields, " {name}={value:?}").unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing::info;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{fmt, registry};

    use super::*;

    /// The output of a subscriber.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        /// The lines since the last call.
        fn lines(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock());
            let text = String::from_utf8(bytes).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    fn log() -> (Repeats, Written, tracing::subscriber::DefaultGuard) {
        let (repeats, written) = (Repeats::default(), Written::default());
        let writer = written.clone();
        let layer = fmt::layer()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone());
        let subscriber = registry().with(layer).with(repeats.clone());
        let guard = tracing::subscriber::set_default(subscriber);
        (repeats, written, guard)
    }

    fn fails(link: &str, reason: &str, attempt: u32) {
        let error = io::Error::other(reason.to_owned());
        let error = &error as &(dyn std::error::Error + 'static);
        warn!(link, error, attempt, "the link is down");
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_failure_is_logged_once_and_then_every_half_minute_with_its_number() {
        let (repeats, written, _guard) = log();
        for attempt in 0..600 {
            fails("publish", "refused", attempt);
            tokio::time::advance(Duration::from_millis(100)).await;
            repeats.report();
        }
        let lines = written.lines();
        let words = "the link is down link=\"publish\" error=refused";
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("the link is down"), "{lines:?}");
        for line in &lines[1..] {
            let still = format!("WARN still: {words}");
            assert!(line.contains(&still) && line.contains("times="), "{line}");
        }
        // After half a minute without a repetition it is logged at once again.
        tokio::time::advance(SILENCE).await;
        repeats.report();
        tokio::time::advance(SILENCE).await;
        repeats.report();
        written.lines();
        fails("publish", "refused", 0);
        assert_eq!(written.lines().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn another_reason_or_another_place_is_logged_at_once() {
        let (_, written, _guard) = log();
        for (link, reason) in [
            ("publish", "refused"),
            ("consume", "refused"),
            ("publish", "reset"),
        ] {
            fails(link, reason, 1);
            fails(link, reason, 2);
        }
        error!(link = "publish", "another line");
        assert_eq!(written.lines().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_failure_is_logged_each_time_and_memory_is_bounded() {
        let (repeats, written, _guard) = log();
        info!("started");
        info!("started");
        assert_eq!(written.lines().len(), 2);
        for n in 0..2 * LINES_MAX {
            fails("publish", &n.to_string(), 0);
        }
        assert_eq!(written.lines().len(), 2 * LINES_MAX);
        assert_eq!(repeats.lines().len(), LINES_MAX);
    }
}

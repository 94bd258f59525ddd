//! The writer: runs the jobs of the queue in as few transactions as possible.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::queue::{Maintenance, Message, Statement, WriteBatcher, WriteJob};
use super::registry::Registry;
use crate::observability::describe::panic_text;
use crate::store::Error;
use crate::store::db::{Link, TIMEOUT_FACTOR, Target};
use crate::store::outage::{Access, Outages};

/// Jobs that may wait; more make their senders wait.
const QUEUE: usize = 1024;

/// Jobs in one transaction.
const BATCH: usize = 256;

/// How often a batch is run again after a conflict with another worker's transaction.
const RERUNS: u32 = 6;

/// Makes a writer, and the batcher that submits jobs to it.
pub(in crate::store) fn writer(
    target: Target,
    timeout: Duration,
    outages: Arc<Outages>,
    registry: Registry,
) -> (WriteBatcher, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let writer = Writer {
        target,
        queue,
        limit: timeout.saturating_mul(TIMEOUT_FACTOR),
        link: None,
        outages,
        registry,
    };
    (WriteBatcher(sender), writer)
}

/// Runs the jobs.
pub(in crate::store) struct Writer {
    target: Target,
    queue: mpsc::Receiver<Message>,
    /// How long one transaction may take before its connection is dropped.
    limit: Duration,
    /// The connection, while it is usable.
    link: Option<Link>,
    outages: Arc<Outages>,
    registry: Registry,
}

/// Why a batch was not committed.
enum Failure {
    Store(Error),
    /// This job's step panicked.
    Panicked {
        job: usize,
        error: Error,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Writer {
    /// Runs until every [`WriteBatcher`] has been dropped.
    pub(in crate::store) async fn run(mut self) {
        let mut messages = Vec::with_capacity(BATCH);
        while self.queue.recv_many(&mut messages, BATCH).await > 0 {
            let mut jobs = Vec::with_capacity(messages.len());
            let mut maintenance = Vec::new();
            for message in messages.drain(..) {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Maintenance(it) => maintenance.push(it),
                }
            }
            if !jobs.is_empty() {
                self.commit(jobs).await;
                // Those that were answered go on first: what they write next then shares a transaction.
                tokio::task::yield_now().await;
            }
            for it in maintenance {
                self.maintain(it).await;
            }
        }
    }

    /// Commits jobs together; where a statement of theirs is refused, one by one, so that a job
    /// that cannot be written fails alone.
    async fn commit(&mut self, mut jobs: Vec<Box<dyn WriteJob>>) {
        match self.commit_together(&mut jobs).await {
            Err(Error::Refused { .. } | Error::Contended { .. }) if jobs.len() > 1 => {
                for job in jobs {
                    let mut alone = vec![job];
                    let failure = self.commit_together(&mut alone).await.err();
                    answer(alone, failure.as_ref());
                }
            }
            done => answer(jobs, done.err().as_ref()),
        }
    }

    async fn commit_together(&mut self, jobs: &mut Vec<Box<dyn WriteJob>>) -> Result<(), Error> {
        let done = self.try_together(jobs).await;
        self.outages.note(Access::Write, &done);
        done
    }

    /// Commits jobs in one transaction, and runs them again while it conflicts with other workers'. A job that
    /// panics is answered and taken out.
    async fn try_together(&mut self, jobs: &mut Vec<Box<dyn WriteJob>>) -> Result<(), Error> {
        let mut reruns = 0;
        while !jobs.is_empty() {
            let limit = self.limit;
            match tokio::time::timeout(limit, self.attempt(jobs)).await {
                Ok(Ok(())) => break,
                Ok(Err(Failure::Panicked { job, error })) => jobs.remove(job).finish(Some(error)),
                Ok(Err(Failure::Store(Error::Contended { .. }))) if reruns < RERUNS => {
                    reruns += 1;
                    tokio::time::sleep(pause(reruns)).await;
                }
                Ok(Err(Failure::Store(error))) => return Err(error),
                // The connection was dropped with the attempt, and with it the transaction.
                Err(_) => return Err(Error::timed_out("writing")),
            }
        }
        Ok(())
    }

    async fn attempt(&mut self, jobs: &mut [Box<dyn WriteJob>]) -> Result<(), Failure> {
        let mut link = self.begin().await?;
        let failure = match transact(&mut link, jobs, &self.registry).await {
            Ok(()) => {
                self.link = Some(link);
                return Ok(());
            }
            Err(failure) => failure,
        };
        // After an outage the connection is not worth a rollback.
        let usable = !matches!(failure, Failure::Store(Error::Unavailable { .. }));
        if usable && link.rollback().await.is_ok() {
            self.link = Some(link);
        }
        Err(failure)
    }

    /// Begins a transaction, on a new connection if the last one is lost.
    async fn begin(&mut self) -> Result<Link, Error> {
        if let Some(mut link) = self.link.take() {
            match link.begin().await {
                Ok(()) => return Ok(link),
                // A server that was restarted closed the connection; nothing was sent yet.
                Err(_) if matches!(link, Link::Postgres(..)) => {}
                Err(error) => return Err(Error::of("beginning a transaction", error)),
            }
        }
        let connect = async {
            let mut link = self.target.link().await?;
            link.begin().await?;
            Ok(link)
        };
        connect
            .await
            .map_err(|error| Error::of("connecting", error))
    }

    async fn maintain(&mut self, maintenance: Maintenance) {
        let statement = maintenance.statement;
        #[cfg(test)]
        if maintenance.is_raw {
            let done = self.execute_raw(statement).await;
            maintenance.answer.send(done).ok();
            return;
        }
        let (limit, doing) = (self.limit, statement.doing);
        let done = tokio::time::timeout(limit, self.execute(statement)).await;
        // The connection was dropped with the statement: commands wait behind it.
        let done = done.unwrap_or_else(|_| Err(Error::timed_out(doing)));
        self.outages.note(Access::Write, &done);
        maintenance.answer.send(done).ok();
    }

    async fn execute(&mut self, statement: Statement) -> Result<u64, Error> {
        let Statement { doing, sql, values } = statement;
        let mut link = self.begin().await?;
        let work = async {
            let changed = link.execute(sql, values).await?;
            link.commit().await?;
            Ok(changed)
        };
        let changed = work.await.map_err(|error| Error::of(doing, error))?;
        self.link = Some(link);
        Ok(changed)
    }

    #[cfg(test)]
    async fn execute_raw(&mut self, statement: Statement) -> Result<u64, Error> {
        let Statement { doing, sql, values } = statement;
        let work = async {
            let mut link = match self.link.take() {
                Some(link) => link,
                None => self.target.link().await?,
            };
            let changed = link.execute(sql, values).await?;
            self.link = Some(link);
            Ok(changed)
        };
        work.await.map_err(|error| Error::of(doing, error))
    }
}

/// Loads the rows, runs the step of every job, writes and commits.
async fn transact(
    link: &mut Link,
    jobs: &mut [Box<dyn WriteJob>],
    registry: &Registry,
) -> Result<(), Failure> {
    let mut rows = registry.rows();
    for job in &*jobs {
        job.needs().request(&mut rows)?;
    }
    rows.load(link).await?;
    for (number, job) in jobs.iter_mut().enumerate() {
        // The rows are thrown away after a panic, so no one sees them half changed.
        catch_unwind(AssertUnwindSafe(|| job.run(&mut rows))).map_err(|panic| {
            Failure::Panicked {
                job: number,
                error: Error::Panicked(panic_text(panic.as_ref()).to_owned()),
            }
        })?;
    }
    rows.write(link).await?;
    link.commit()
        .await
        .map_err(|error| Error::of("committing", error))?;
    Ok(())
}

fn answer(jobs: Vec<Box<dyn WriteJob>>, failure: Option<&Error>) {
    for job in jobs {
        job.finish(failure.cloned());
    }
}

/// How long to wait before a rerun: 5 to 10 ms, twice that, and so on.
fn pause(rerun: u32) -> Duration {
    let step = Duration::from_millis(5) * 2_u32.saturating_pow(rerun - 1);
    step.mul_f64(rand::random_range(1.0..2.0))
}

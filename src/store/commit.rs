//! Group commit: one writer puts the changes of many commands into one transaction.
//!
//! The writer takes the first job that waits and whatever has queued up behind it while the last
//! transaction was being written, loads all their rows with one query a table, lets every job do
//! its step in memory, in order, writes all differences with a few statements, commits, and only
//! then answers. A disk's fsync is thus shared by as many commands as came in during the last one.
//!
//! Steps are `Fn` and depend on nothing but the rows, so a batch that met another worker's
//! transaction is rolled back and run again from the start.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::db::{Link, PATIENCE, Target};
use super::known_groups::KnownKey;
use super::outage::{Access, Outages};
use super::shards::{self, Fence};
use super::{Error, known_groups, lanes, ledger, sandbox_groups};
use crate::contract::GroupId;
use crate::observability::describe::panic_text;

/// Jobs that may wait; more make their senders wait.
const QUEUE: usize = 1024;

/// Jobs in one transaction.
const BATCH: usize = 256;

const PURGING: &str = "purging the ledger";

/// How often a batch is run again after meeting another worker's transaction.
const RERUNS: u32 = 6;

/// The rows that a batch works on, in memory.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) ledger: ledger::Rows,
    pub(super) groups: sandbox_groups::Rows,
    pub(super) lanes: lanes::Rows,
    pub(super) known: known_groups::Rows,
}

/// The rows that a job has to see.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadSet {
    pub(super) key: Option<ledger::Key>,
    pub(super) groups: Vec<GroupId>,
    pub(super) known: Vec<KnownKey>,
    pub(super) notification: Option<String>,
    /// Under which it is written, if under any; [`Queue::submit`] sets it.
    pub(super) fence: Option<Fence>,
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub(super) struct WriteBatcher {
    messages: mpsc::Sender<Message>,
    fence: Option<Fence>,
}

/// What the writer can be asked.
enum Message {
    WriteJob(Box<dyn WriteJob>),
    Maintenance(Maintenance),
}

/// Work of its own transaction, done between two batches.
enum Maintenance {
    Purge {
        limits: ledger::Limits,
        at_most: u32,
        answer: oneshot::Sender<Result<u64, Error>>,
    },
    #[cfg(test)]
    Raw {
        sql: String,
        answer: oneshot::Sender<Result<u64, Error>>,
    },
}

/// A step and who waits for it.
trait WriteJob: Send {
    fn needs(&self) -> &ReadSet;
    /// Does the step and keeps what it found; a second run replaces the first.
    fn run(&mut self, rows: &mut Rows);
    /// Leaves the step undone, for this reason.
    fn refuse(&mut self, error: Error);
    /// Answers: what the step found, or why it could not be kept.
    fn finish(self: Box<Self>, failure: Option<Error>);
}

struct Pending<F, T> {
    needs: ReadSet,
    step: F,
    found: Option<Result<T, Error>>,
    answer: oneshot::Sender<Result<T, Error>>,
}

impl<F, T> WriteJob for Pending<F, T>
where
    F: Fn(&mut Rows) -> Result<T, Error> + Send,
    T: Send,
{
    fn needs(&self) -> &ReadSet {
        &self.needs
    }

    fn run(&mut self, rows: &mut Rows) {
        self.found = Some((self.step)(rows));
    }

    fn refuse(&mut self, error: Error) {
        self.found = Some(Err(error));
    }

    fn finish(self: Box<Self>, failure: Option<Error>) {
        let found = match failure {
            Some(error) => Err(error),
            None => self.found.unwrap_or(Err(Error::Closed)),
        };
        // Whoever asked may have stopped waiting.
        self.answer.send(found).ok();
    }
}

impl WriteBatcher {
    /// The same way, for what is written under a fence.
    pub(super) fn under(&self, fence: Option<Fence>) -> Self {
        Self {
            messages: self.messages.clone(),
            fence,
        }
    }

    /// Has the writer do `step` in its next transaction and waits until that is committed.
    ///
    /// `step` may run several times; one that fails must have changed nothing. Dropping the future
    /// does not call the step off.
    pub(super) async fn submit<F, T>(&self, needs: ReadSet, step: F) -> Result<T, Error>
    where
        F: Fn(&mut Rows) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let (answer, found) = oneshot::channel();
        let fence = self.fence.clone();
        let job = Box::new(Pending {
            needs: ReadSet { fence, ..needs },
            step,
            found: None,
            answer,
        });
        self.ask(Message::WriteJob(job), found).await
    }

    /// Deletes some of the ledger's oldest rows, between two batches.
    pub(super) async fn purge(&self, limits: ledger::Limits, at_most: u32) -> Result<u64, Error> {
        let (answer, found) = oneshot::channel();
        self.ask(
            Message::Maintenance(Maintenance::Purge {
                limits,
                at_most,
                answer,
            }),
            found,
        )
        .await
    }

    /// Runs a statement on the writer's own connection.
    #[cfg(test)]
    pub(super) async fn raw(&self, sql: &str) -> Result<u64, Error> {
        let (answer, found) = oneshot::channel();
        self.ask(
            Message::Maintenance(Maintenance::Raw {
                sql: sql.to_owned(),
                answer,
            }),
            found,
        )
        .await
    }

    async fn ask<T>(
        &self,
        message: Message,
        found: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        self.messages
            .send(message)
            .await
            .map_err(|_| Error::Closed)?;
        found.await.unwrap_or(Err(Error::Closed))
    }
}

/// Makes a writer and the way to it.
pub(super) fn writer(
    target: Target,
    timeout: Duration,
    outages: Arc<Outages>,
) -> (WriteBatcher, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let limit = timeout.saturating_mul(PATIENCE);
    (
        WriteBatcher {
            messages: sender,
            fence: None,
        },
        Writer {
            target,
            queue,
            limit,
            link: None,
            outages,
        },
    )
}

/// The one that writes.
pub(super) struct Writer {
    target: Target,
    queue: mpsc::Receiver<Message>,
    /// How long one transaction may take before its connection is given up.
    limit: Duration,
    /// The connection, while it is good.
    link: Option<Link>,
    outages: Arc<Outages>,
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
    /// Writes until every way here has been dropped.
    pub(super) async fn run(mut self) {
        let mut messages = Vec::with_capacity(BATCH);
        while self.queue.recv_many(&mut messages, BATCH).await > 0 {
            let mut jobs = Vec::with_capacity(messages.len());
            let mut chores = Vec::new();
            for message in messages.drain(..) {
                match message {
                    Message::WriteJob(job) => jobs.push(job),
                    Message::Maintenance(chore) => chores.push(chore),
                }
            }
            self.commit(jobs).await;
            for chore in chores {
                self.chore(chore).await;
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

    /// Commits jobs in one transaction, again and again while it meets other workers'. A job that
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
        let failure = match transact(&mut link, jobs).await {
            Ok(()) => {
                self.link = Some(link);
                return Ok(());
            }
            Err(failure) => failure,
        };
        // After an outage the connection is not worth asking.
        let usable = !matches!(failure, Failure::Store(Error::Unavailable { .. }));
        if usable && link.rollback().await.is_ok() {
            self.link = Some(link);
        }
        Err(failure)
    }

    /// Begins a transaction, on a new connection if the last one has gone.
    async fn begin(&mut self) -> Result<Link, Error> {
        if let Some(mut link) = self.link.take() {
            match link.begin().await {
                Ok(()) => return Ok(link),
                // A server that was restarted closed the connection; nothing was asked yet.
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

    async fn chore(&mut self, chore: Maintenance) {
        let (done, answer) = match chore {
            Maintenance::Purge {
                limits,
                at_most,
                answer,
            } => {
                let limit = self.limit;
                let purged = tokio::time::timeout(limit, self.purge(limits, at_most)).await;
                // The connection was dropped with the purge: commands wait behind it.
                let purged = purged.unwrap_or_else(|_| Err(Error::timed_out(PURGING)));
                self.outages.note(Access::Write, &purged);
                (purged, answer)
            }
            #[cfg(test)]
            Maintenance::Raw { sql, answer } => {
                let work = async {
                    let mut link = match self.link.take() {
                        Some(link) => link,
                        None => self.target.link().await?,
                    };
                    let touched = link.execute(sql, Vec::new()).await?;
                    self.link = Some(link);
                    Ok(touched)
                };
                (
                    work.await.map_err(|error| Error::of("testing", error)),
                    answer,
                )
            }
        };
        answer.send(done).ok();
    }

    async fn purge(&mut self, limits: ledger::Limits, at_most: u32) -> Result<u64, Error> {
        let mut link = self.begin().await?;
        let deleted = ledger::purge(&mut link, limits, at_most).await?;
        link.commit()
            .await
            .map_err(|error| Error::of(PURGING, error))?;
        self.link = Some(link);
        Ok(deleted)
    }
}

/// Loads, lets every job do its step, writes and commits.
async fn transact(link: &mut Link, jobs: &mut [Box<dyn WriteJob>]) -> Result<(), Failure> {
    // Before anything is read: what follows is what the last one to have the queue left behind.
    let fences: BTreeSet<_> = jobs
        .iter()
        .filter_map(|job| job.needs().fence.clone())
        .collect();
    let fallen = shards::fallen(link, fences).await?;
    // Groups before ledger rows: whoever has waited for a group then sees its last command too.
    let ids: Vec<_> = jobs
        .iter()
        .flat_map(|job| job.needs().groups.iter())
        .cloned()
        .collect();
    let keys: Vec<_> = jobs
        .iter()
        .filter_map(|job| job.needs().key.clone())
        .collect();
    let groups = sandbox_groups::Rows::load(link, ids).await?;
    let ledger = ledger::Rows::load(link, keys).await?;
    let known = jobs.iter().flat_map(|job| job.needs().known.iter());
    let known = known.cloned().collect();
    let notifications = jobs
        .iter()
        .filter_map(|job| job.needs().notification.clone());
    let known = known_groups::Rows::load(link, known, notifications.collect()).await?;
    let mut rows = Rows {
        ledger,
        groups,
        known,
        lanes: lanes::Rows::default(),
    };
    for (number, job) in jobs.iter_mut().enumerate() {
        let fence = job.needs().fence.as_ref();
        if fence.is_some_and(|fence| fallen.contains(fence)) {
            job.refuse(Error::Fenced);
            continue;
        }
        // The rows are thrown away after a panic, so nobody sees them half changed.
        catch_unwind(AssertUnwindSafe(|| job.run(&mut rows))).map_err(|panic| {
            Failure::Panicked {
                job: number,
                error: Error::Panicked(panic_text(panic.as_ref()).to_owned()),
            }
        })?;
    }
    rows.ledger.write(link).await?;
    rows.groups.write(link).await?;
    rows.lanes.write(link).await?;
    rows.known.write(link).await?;
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

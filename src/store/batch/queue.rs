//! The queue of write jobs: what the tables submit, and what the writer runs.

use tokio::sync::{mpsc, oneshot};

use super::registry::{ReadSet, Rows};
use crate::store::Error;
use crate::store::db::Value;

/// Submits jobs to the writer; cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::store) struct WriteBatcher(pub(super) mpsc::Sender<Message>);

/// What the writer is asked to do.
pub(super) enum Message {
    Job(Box<dyn WriteJob>),
    Maintenance(Maintenance),
}

/// One statement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) doing: &'static str,
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

/// A statement that runs in a transaction of its own, between two batches.
pub(super) struct Maintenance {
    pub(super) statement: Statement,
    /// It runs without a transaction.
    #[cfg(test)]
    pub(super) is_raw: bool,
    pub(super) answer: oneshot::Sender<Result<u64, Error>>,
}

/// A step, and where its result goes.
pub(super) trait WriteJob: Send {
    fn needs(&self) -> &ReadSet;
    /// Runs the step and keeps its result; a second run replaces the first.
    fn run(&mut self, rows: &mut Rows);
    /// Answers with the step's result, or with the reason why it could not be written.
    fn finish(self: Box<Self>, failure: Option<Error>);
}

struct Job<F, T> {
    needs: ReadSet,
    step: F,
    result: Option<Result<T, Error>>,
    answer: oneshot::Sender<Result<T, Error>>,
}

impl<F, T> WriteJob for Job<F, T>
where
    F: Fn(&mut Rows) -> Result<T, Error> + Send,
    T: Send,
{
    fn needs(&self) -> &ReadSet {
        &self.needs
    }

    fn run(&mut self, rows: &mut Rows) {
        self.result = Some((self.step)(rows));
    }

    fn finish(self: Box<Self>, failure: Option<Error>) {
        let result = match failure {
            Some(error) => Err(error),
            None => self.result.unwrap_or(Err(Error::Closed)),
        };
        // The caller may have stopped waiting.
        self.answer.send(result).ok();
    }
}

impl WriteBatcher {
    /// Runs `step` in the writer's next transaction, and waits until that is committed.
    ///
    /// `step` may run several times; one that fails must have changed nothing. Dropping the future
    /// does not cancel the step.
    pub(in crate::store) async fn submit<F, T>(&self, needs: ReadSet, step: F) -> Result<T, Error>
    where
        F: Fn(&mut Rows) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job = Box::new(Job {
            needs,
            step,
            result: None,
            answer,
        });
        self.send(Message::Job(job), result).await
    }

    /// Runs a statement in a transaction of its own, between two batches; returns the number of rows it changed.
    pub(in crate::store) async fn execute(
        &self,
        doing: &'static str,
        sql: String,
        values: Vec<Value>,
    ) -> Result<u64, Error> {
        let (answer, result) = oneshot::channel();
        let maintenance = Maintenance {
            statement: Statement { doing, sql, values },
            #[cfg(test)]
            is_raw: false,
            answer,
        };
        self.send(Message::Maintenance(maintenance), result).await
    }

    /// Runs a statement on the writer's own connection.
    #[cfg(test)]
    pub(in crate::store) async fn raw(&self, sql: &str) -> Result<u64, Error> {
        let statement = Statement {
            doing: "testing",
            sql: sql.to_owned(),
            values: Vec::new(),
        };
        let (answer, result) = oneshot::channel();
        let maintenance = Maintenance {
            statement,
            is_raw: true,
            answer,
        };
        self.send(Message::Maintenance(maintenance), result).await
    }

    async fn send<T>(
        &self,
        message: Message,
        result: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        self.0.send(message).await.map_err(|_| Error::Closed)?;
        result.await.unwrap_or(Err(Error::Closed))
    }
}

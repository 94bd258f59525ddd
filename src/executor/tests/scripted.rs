//! An engine with external effects and scripted answers, and the executor around it.

use crate::engines::Context;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;

use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::contract::{
    CommandResult, CommandType, EngineName, ErrorCode, ParticipantId, Timestamp,
};
use crate::engines::{Call, Effect, Engine, EngineError, Found};
use crate::executor::{Accepted, Decoder, Executor, Interrupted, RetryState, Verdict};
use crate::store::Store;
use crate::store::endpoints::Endpoint;
use crate::store::ledger::{Claim, Key, Starts};

/// What the engine does when it is called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Done,
    /// Done, but the store cannot be used when that is to be recorded.
    DoneUnrecorded,
    Slow,
    Unavailable,
    NotReady,
    Own,
    Patience,
    Refused,
    Silence,
    /// It reports a failure, and nothing was done.
    Failing,
    /// It reports a failure, and may have done it.
    FailingOpen,
    Panic,
}

#[derive(Debug)]
struct Scripted {
    store: Store,
    answers: Mutex<VecDeque<Answer>>,
    found: Mutex<VecDeque<Found>>,
    searches: AtomicUsize,
    /// It cannot be asked for its effects.
    is_away: AtomicBool,
    /// A search for an effect fails.
    fails_searches: AtomicBool,
    calls: AtomicUsize,
}

#[async_trait]
impl Engine for Scripted {
    fn name(&self) -> EngineName {
        EngineName::Waha
    }

    async fn execute(&self, _: &Call) -> Result<Effect, EngineError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().pop_front().unwrap();
        let message = "as scripted".to_owned();
        match answer {
            Answer::Panic => panic!("as scripted"),
            Answer::Slow => tokio::time::sleep(Duration::from_millis(50)).await,
            Answer::Done => {}
            Answer::DoneUnrecorded => self.store.fail_once().await,
            Answer::Unavailable => {
                return Err(EngineError::Unavailable {
                    message,
                    source: None,
                });
            }
            Answer::NotReady => {
                return Err(EngineError::NotReady {
                    message,
                    after: None,
                });
            }
            Answer::Own => {
                let source = message.clone().into();
                return Err(EngineError::Internal { message, source });
            }
            Answer::Patience => {
                let after = Some(Duration::from_mins(1));
                return Err(EngineError::RateLimited { message, after });
            }
            Answer::Silence => return Err(EngineError::NoAnswer { message }),
            Answer::Failing | Answer::FailingOpen => {
                let is_open = matches!(answer, Answer::FailingOpen);
                return Err(EngineError::Failing { message, is_open });
            }
            Answer::Refused => {
                return Err(EngineError::Refused {
                    code: ErrorCode::NotAllowed,
                    message,
                });
            }
        }
        Ok(effect())
    }

    async fn account(&self, _: &Call) -> Result<Vec<ParticipantId>, EngineError> {
        Ok(Vec::new())
    }

    async fn find(&self, _: &Call, _: Starts) -> Result<Found, EngineError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(EngineError::NotReady {
                message: "as scripted".to_owned(),
                after: None,
            });
        }
        if self.fails_searches.load(Ordering::SeqCst) {
            return Err(EngineError::Unavailable {
                message: "as scripted".to_owned(),
                source: None,
            });
        }
        self.searches.fetch_add(1, Ordering::SeqCst);
        Ok(self.found.lock().pop_front().unwrap_or(Found::Unclear))
    }

    async fn check(&self) -> Result<String, EngineError> {
        Ok(String::new())
    }
}

fn effect() -> Effect {
    Effect::new(&CommandResult::Done(true), Vec::new()).unwrap()
}

pub(super) fn found() -> Found {
    Found::Effect(effect())
}

/// The executor, its engine and its store.
#[derive(Debug)]
pub(super) struct Bench {
    engine: Arc<Scripted>,
    executor: Executor,
    store: Store,
    url: String,
    folder: Arc<TempDir>,
}

impl Bench {
    pub(super) async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::with(|_| (), answers).await
    }

    /// With settings.
    pub(super) async fn with(
        settings: impl FnOnce(&mut config::Config),
        answers: impl IntoIterator<Item = Answer>,
    ) -> Self {
        Self::of(Arc::new(tempfile::tempdir().unwrap()), settings, answers).await
    }

    /// Another worker with the same store, without short retries.
    pub(super) async fn beside(&self, answers: impl IntoIterator<Item = Answer>) -> Self {
        let settings = |config: &mut config::Config| config.retry.within = Duration::ZERO;
        Self::of(Arc::clone(&self.folder), settings, answers).await
    }

    async fn of(
        folder: Arc<TempDir>,
        settings: impl FnOnce(&mut config::Config),
        answers: impl IntoIterator<Item = Answer>,
    ) -> Self {
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let store = open(&url).await;
        let engine = Arc::new(Scripted {
            store: store.clone(),
            answers: Mutex::default(),
            found: Mutex::default(),
            searches: AtomicUsize::default(),
            is_away: AtomicBool::default(),
            fails_searches: AtomicBool::default(),
            calls: AtomicUsize::default(),
        });
        let mut config = config::Sources::default().load().unwrap();
        config.retry = config::Retry {
            first: Duration::from_millis(5),
            within: Duration::from_secs(4),
            reads: Duration::from_millis(200),
            attempts: 3,
            max_age: Duration::from_hours(1),
            lost_after: Duration::from_mins(5),
        };
        settings(&mut config);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let decoder = Decoder::new();
        let executor = Executor::new(engine.clone(), &store, decoder, clock, &config);
        let bench = Self {
            engine,
            executor,
            store,
            url,
            folder,
        };
        bench.script(answers);
        bench
    }

    pub(super) fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.engine.answers.lock() = answers.into_iter().collect();
    }

    pub(super) fn finds(&self, found: Found) {
        self.engine.found.lock().push_back(found);
    }

    pub(super) fn searches(&self) -> usize {
        self.engine.searches.load(Ordering::SeqCst)
    }

    pub(super) fn leaves(&self) {
        self.engine.is_away.store(true, Ordering::SeqCst);
    }

    pub(super) fn fails_searches(&self) {
        self.engine.fails_searches.store(true, Ordering::SeqCst);
    }

    pub(super) fn calls(&self) -> usize {
        self.engine.calls.load(Ordering::SeqCst)
    }

    pub(super) async fn run(&self, command: &Accepted) -> Verdict {
        self.run_after(command, self.fresh()).await
    }

    pub(super) async fn run_after(&self, command: &Accepted, retry_state: RetryState) -> Verdict {
        self.executor
            .run(command, &retry_state, &Context::default())
            .await
            .unwrap()
    }

    /// Runs a command while the store cannot be used.
    pub(super) async fn run_in_outage(&self, command: &Accepted) -> Result<Verdict, Interrupted> {
        self.store.fail_once().await;
        self.executor
            .run(command, &self.fresh(), &Context::default())
            .await
    }

    /// The state of a command that arrives for the first time.
    pub(super) fn fresh(&self) -> RetryState {
        RetryState {
            attempts: 0,
            first_seen: self.ago(Duration::ZERO),
            cause: None,
        }
    }

    #[expect(clippy::unused_self, reason = "reads better where it is used")]
    pub(super) fn ago(&self, retry_state: Duration) -> Timestamp {
        Timestamp(SystemClock.now().checked_sub(retry_state).unwrap())
    }

    /// Records a command as started by another worker.
    pub(super) async fn claimed_by(&self, owner: &str, command: &Accepted) -> Claim {
        let key = Key {
            session: command.session.clone(),
            command_id: command.id.clone(),
        };
        self.store
            .ledger()
            .claim(key, command.fingerprint, owner)
            .await
            .unwrap()
    }

    /// A webhook endpoint as it is stored.
    pub(super) async fn endpoint(&self, name: &str) -> Option<Endpoint> {
        self.store.endpoints().get(name).await.unwrap()
    }

    /// Writes this worker's heartbeat.
    pub(super) async fn beat(&self) {
        self.store.workers().heartbeat().await.unwrap();
    }

    /// Leaves a command to the next worker.
    pub(super) async fn leave(&self, command: &Accepted) {
        self.executor.leave(command).await;
    }

    /// Lets another worker be alive.
    pub(super) async fn beat_of(&self, owner: &str) {
        let other = open(&self.url).await;
        other.workers_named(owner).heartbeat().await.unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no lifecycle")]
pub(in crate::executor) async fn open(url: &str) -> Store {
    let settings = config::Store {
        url: url.to_owned().into(),
        url_file: None,
        connections: 2,
        timeout: Duration::from_secs(5),
    };
    let (store, writer) = Store::open(&settings, Arc::new(SystemClock)).await.unwrap();
    tokio::spawn(writer);
    store
}

pub(in crate::executor) fn accepted(
    id: &str,
    command_type: CommandType,
    payload: serde_json::Value,
) -> Accepted {
    Accepted {
        id: id.parse().unwrap(),
        session: "default".parse().unwrap(),
        command: command_type.read(payload).unwrap(),
        fingerprint: [7; 32],
        expires_at: None,
    }
}

/// A command that only reads.
pub(super) fn read(id: &str) -> Accepted {
    accepted(id, CommandType::ListGroups, json!({}))
}

/// A command that may be repeated.
pub(super) fn rename(id: &str) -> Accepted {
    let payload = json!({"groupId": "120363000000000001@g.us", "subject": "Other"});
    accepted(id, CommandType::SetGroupSubject, payload)
}

/// A command that must not be repeated.
pub(super) fn create(id: &str) -> Accepted {
    accepted(
        id,
        CommandType::CreateGroup,
        json!({"name": "New", "participants": []}),
    )
}

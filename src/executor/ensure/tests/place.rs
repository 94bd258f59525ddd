//! Where the whole command is executed: the sandbox behind a connection that fails, and workers that are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::clock::SystemClock;
use crate::config;
use crate::contract::{CommandType, EngineName, EnsuredGroup, ParticipantId, Reply, Timestamp};
use crate::engines::pictures::Pictures;
use crate::engines::sandbox::Sandbox;
use crate::engines::{Call, Context, Effect, Engine, EngineError, Found, ResultLimit};
use crate::executor::tests::scripted::{accepted, open};
use crate::executor::{Accepted, CommandOutcome, Decoder, Executor, RetryState, Verdict};
use crate::store::ledger::Starts;

/// The sandbox, behind a connection that fails at random.
#[derive(Debug)]
pub(super) struct Flaky {
    sandbox: Sandbox,
    chance: Mutex<StdRng>,
    /// How many of a hundred calls fail.
    pub(super) failing: AtomicU32,
    /// It does not tell the account's id.
    pub(super) is_anonymous: AtomicBool,
    killed: Notify,
}

impl Flaky {
    /// Has the worker killed.
    async fn kill<T>(&self) -> T {
        self.killed.notify_one();
        std::future::pending().await
    }

    /// What happens to a call: nothing for most.
    fn drawn(&self) -> u32 {
        let failing = self.failing.load(Ordering::SeqCst);
        let mut chance = self.chance.lock();
        if chance.random_range(0..100) < failing {
            chance.random_range(1..=6)
        } else {
            0
        }
    }
}

#[async_trait]
impl Engine for Flaky {
    fn name(&self) -> EngineName {
        EngineName::Sandbox
    }

    async fn execute(&self, call: &Call) -> Result<Effect, EngineError> {
        let message = "as drawn".to_owned();
        match self.drawn() {
            1 => Err(EngineError::Unavailable {
                message,
                source: None,
            }),
            2 => Err(EngineError::RateLimited {
                message,
                after: Some(Duration::from_millis(1)),
            }),
            3 => Err(EngineError::NoAnswer { message }),
            4 => {
                self.sandbox.execute(call).await?;
                Err(EngineError::NoAnswer { message })
            }
            // The worker is killed before or after the effect.
            5 => self.kill().await,
            6 => {
                self.sandbox.execute(call).await?;
                self.kill().await
            }
            _ => self.sandbox.execute(call).await,
        }
    }

    async fn account(&self, call: &Call) -> Result<Vec<ParticipantId>, EngineError> {
        if self.is_anonymous.load(Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        self.sandbox.account(call).await
    }

    async fn find(&self, call: &Call, starts: Starts) -> Result<Found, EngineError> {
        self.sandbox.find(call, starts).await
    }

    async fn check(&self) -> Result<String, EngineError> {
        self.sandbox.check().await
    }
}

/// A store, and a worker that is replaced when it is killed.
pub(super) struct Place {
    url: String,
    pub(super) engine: Arc<Flaky>,
    executor: Executor,
    config: config::Config,
    _folder: TempDir,
}

impl Place {
    pub(super) async fn new(seed: u64, settings: impl FnOnce(&mut config::Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let mut config = config::Sources::default().load().unwrap();
        config.retry.within = Duration::ZERO;
        config.safety.pause_min = Duration::from_millis(1);
        config.executor.timeout = Duration::from_mins(1);
        settings(&mut config);
        let store = open(&url).await;
        let config::Engine::Sandbox(sandbox) = config.engine.clone() else {
            panic!("the default engine is the sandbox");
        };
        let clock = Arc::new(SystemClock);
        let pictures = Pictures::of_tests();
        let engine = Arc::new(Flaky {
            sandbox: Sandbox::seeded(
                store.clone(),
                sandbox,
                clock.clone(),
                pictures,
                ResultLimit::of_messages(config.amqp.message_max),
                seed,
            ),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            failing: AtomicU32::new(0),
            is_anonymous: AtomicBool::new(false),
            killed: Notify::new(),
        });
        let decoder = Decoder::new();
        let executor = Executor::new(engine.clone(), &store, decoder, clock, &config);
        Self {
            url,
            engine,
            executor,
            config,
            _folder: folder,
        }
    }

    /// Another worker on the same store; the one before is dead.
    async fn replace(&mut self) {
        let store = open(&self.url).await;
        let decoder = Decoder::new();
        let clock = Arc::new(SystemClock);
        self.executor = Executor::new(self.engine.clone(), &store, decoder, clock, &self.config);
    }

    pub(super) async fn attempt(&self, command: &Accepted) -> Verdict {
        let retry_state = RetryState {
            attempts: 0,
            first_seen: Timestamp(jiff::Timestamp::now()),
            cause: None,
        };
        self.executor
            .run(command, &retry_state, &Context::default())
            .await
            .unwrap()
    }

    pub(super) async fn outcome(&mut self, id: &str, payload: &Value) -> CommandOutcome {
        self.until_answered(&ensure_group(id, payload)).await
    }

    /// Delivers a command until it is answered, to another worker after each kill.
    pub(super) async fn until_answered(&mut self, command: &Accepted) -> CommandOutcome {
        let mut last = None;
        for _ in 0..200 {
            let engine = Arc::clone(&self.engine);
            let verdict = tokio::select! {
                verdict = self.attempt(command) => Some(verdict),
                () = engine.killed.notified() => None,
            };
            match verdict {
                Some(Verdict::Answered(outcome)) => return *outcome,
                Some(Verdict::Deferred(deferral)) => last = Some(deferral),
                None => self.replace().await,
            }
        }
        panic!("no answer after 200 deliveries: {last:?}");
    }

    /// The groups of the account.
    pub(super) async fn groups(&self) -> Vec<Value> {
        let list = accepted("list", CommandType::ListGroups, json!({}));
        let Verdict::Answered(outcome) = self.attempt(&list).await else {
            panic!("not answered");
        };
        serde_json::from_str(outcome.reply.result.as_ref().unwrap().get()).unwrap()
    }

    pub(super) async fn ensure(
        &mut self,
        id: &str,
        payload: &Value,
    ) -> (EnsuredGroup, CommandOutcome) {
        let outcome = self.outcome(id, payload).await;
        (result(&outcome.reply), outcome)
    }
}

pub(super) fn result(reply: &Reply) -> EnsuredGroup {
    assert!(reply.error.is_none(), "{reply:?}");
    serde_json::from_str(reply.result.as_ref().unwrap().get()).unwrap()
}

/// The command, as it is decoded.
pub(super) fn ensure_group(id: &str, payload: &Value) -> Accepted {
    let mut command = accepted(id, CommandType::EnsureGroup, payload.clone());
    command.fingerprint = crate::executor::decode::fingerprint(&command.command);
    command
}

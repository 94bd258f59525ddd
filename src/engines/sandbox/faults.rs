//! Injected faults by session: delays, errors, outages, limits. All occur before a command is started,
//! so that no command is executed in part.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::config;
use crate::contract::SessionName;
use crate::engines::EngineError;

/// The configured faults.
#[derive(Debug)]
pub(super) struct Faults {
    by_session: BTreeMap<SessionName, config::Fault>,
    /// Locked for one draw only.
    chance: Mutex<StdRng>,
}

impl Faults {
    pub(super) fn new(by_session: BTreeMap<SessionName, config::Fault>, seed: u64) -> Self {
        Self {
            by_session,
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// Delays or fails, according to the session's faults.
    pub(super) async fn act_out(&self, session: &SessionName) -> Result<(), EngineError> {
        let Some(fault) = self.by_session.get(session) else {
            return Ok(());
        };
        if !fault.delay.is_zero() {
            tokio::time::sleep(fault.delay).await;
        }
        if fault.outage {
            return Err(EngineError::NotReady {
                message: format!(
                    "session {session} is offline: [engine.sandbox.faults.{session}] outage is set"
                ),
                after: None,
            });
        }
        if fault.restricted {
            return Err(EngineError::Restricted {
                message: format!(
                    "the account of session {session} is restricted: \
                     [engine.sandbox.faults.{session}] restricted is set"
                ),
                after: None,
            });
        }
        if fault.rate_limit.is_some() {
            return Err(EngineError::RateLimited {
                message: format!(
                    "WhatsApp limits the request rate of session {session}: \
                     [engine.sandbox.faults.{session}] rate_limit is set"
                ),
                after: fault.rate_limit,
            });
        }
        let drawn: f64 = self.chance.lock().random();
        if drawn < fault.error_rate {
            return Err(EngineError::Unavailable {
                message: format!(
                    "the sandbox failed on purpose: [engine.sandbox.faults.{session}] error_rate"
                ),
                source: None,
            });
        }
        Ok(())
    }

    /// Aborts the process, if the session's faults say so.
    pub(super) fn crash(&self, session: &SessionName, here: config::CrashPoint) {
        if self
            .by_session
            .get(session)
            .is_some_and(|fault| fault.crash == Some(here))
        {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn faults(fault: config::Fault) -> (Faults, SessionName) {
        let session: SessionName = "default".parse().unwrap();
        (Faults::new([(session.clone(), fault)].into(), 7), session)
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_delays_and_spares_other_sessions() {
        let delay = Duration::from_secs(3);
        let (faults, session) = faults(config::Fault {
            delay,
            ..config::Fault::default()
        });
        let begun = tokio::time::Instant::now();
        faults.act_out(&"other".parse().unwrap()).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        faults.act_out(&session).await.unwrap();
        assert_eq!(begun.elapsed(), delay);
    }

    #[tokio::test]
    async fn the_error_rate_is_kept_and_the_same_for_the_same_seed() {
        let fault = config::Fault {
            error_rate: 0.3,
            ..config::Fault::default()
        };
        let mut runs = Vec::new();
        for _ in 0..2 {
            let (faults, session) = faults(fault);
            let mut failed = Vec::new();
            for _ in 0..1000 {
                failed.push(faults.act_out(&session).await.is_err());
            }
            runs.push(failed);
        }
        let share = runs[0].iter().filter(|failed| **failed).count();
        assert!((250..350).contains(&share), "{share}");
        assert_eq!(runs[0], runs[1]);
    }

    #[tokio::test]
    async fn an_outage_is_a_session_that_is_not_ready() {
        let (faults, session) = faults(config::Fault {
            outage: true,
            ..config::Fault::default()
        });
        let error = faults.act_out(&session).await.unwrap_err();
        assert!(matches!(error, EngineError::NotReady { .. }));
    }
}

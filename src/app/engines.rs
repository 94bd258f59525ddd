//! The engine of a configuration.

use std::sync::Arc;

use anyhow::Context;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::engines::pictures::Pictures;
use crate::engines::sandbox::Sandbox;
use crate::engines::waha::Waha;
use crate::engines::{Engine, ResultLimit};
use crate::outbound::{AddressPolicy, Outbound};
use crate::store::Store;

/// Makes the engine that a configuration names: [`engine`].
pub type MakeEngines = fn(&Config, &Store, Arc<dyn Clock>) -> anyhow::Result<Engines>;

/// The engine that the configuration names.
#[derive(Debug, Clone)]
pub struct Engines {
    /// As the executor knows it.
    pub engine: Arc<dyn Engine>,
    /// The same, if it is WAHA, which also sends notifications.
    pub waha: Option<Arc<Waha>>,
}

/// Makes the engine that the configuration names.
///
/// # Errors
/// When it cannot be made.
pub fn engine(config: &Config, store: &Store, clock: Arc<dyn Clock>) -> anyhow::Result<Engines> {
    let strangers = Outbound::new(&config.egress, AddressPolicy::PublicOnly)
        .context("cannot make requests (egress)")?;
    let pictures = Pictures::new(strangers);
    Ok(match &config.engine {
        config::Engine::Sandbox(settings) => Engines {
            engine: Arc::new(Sandbox::new(
                store.clone(),
                settings.clone(),
                clock,
                pictures,
                ResultLimit::of_messages(config.amqp.message_max),
            )),
            waha: None,
        },
        config::Engine::Waha(settings) => {
            let outbound = Outbound::new(&config.egress, AddressPolicy::Any)
                .context("cannot make requests (egress)")?;
            let waha = Arc::new(Waha::new(
                outbound,
                store.clone(),
                settings.clone(),
                clock,
                pictures,
            ));
            Engines {
                engine: Arc::clone(&waha) as _,
                waha: Some(waha),
            }
        }
    })
}

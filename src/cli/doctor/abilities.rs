//! Which commands the configured engine can execute: a number in the text, each command in the JSON.

use serde::Serialize;

use crate::contract::CommandType;
use crate::engines::{Abilities, Engine};

use super::{Check, with_causes};

/// A command on one engine or server.
#[derive(Debug, Serialize)]
pub(super) struct Ability {
    /// The engine or server.
    on: String,
    command: CommandType,
    supported: bool,
    /// What it needs that the engine does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A command that the engine lacks is no failure: its producers are told so by `NOT_SUPPORTED`.
pub(super) async fn check(engine: &dyn Engine) -> Check {
    let name = "supports";
    match engine.abilities().await {
        Err(error) => Check::new(name, Ok(format!("unknown: {}", with_causes(error)))),
        Ok(all) => Check {
            commands: Some(all.iter().flat_map(each).collect()),
            ..Check::new(name, Ok(summary(&all)))
        },
    }
}

fn each(abilities: &Abilities) -> impl Iterator<Item = Ability> {
    CommandType::ALL.iter().map(|&command| {
        let lack = abilities
            .unsupported
            .iter()
            .find(|it| it.command == command);
        Ability {
            on: abilities.of.clone(),
            command,
            supported: lack.is_none(),
            reason: lack.map(|it| it.reason.clone()),
        }
    })
}

fn summary(all: &[Abilities]) -> String {
    let one = |it: &Abilities| {
        let names: Vec<_> = it
            .unsupported
            .iter()
            .map(|it| it.command.as_str())
            .collect();
        if names.is_empty() {
            return format!("{}: all commands", it.of);
        }
        let count = CommandType::ALL.len() - names.len();
        format!(
            "{}: {count} of {} commands, not {}; --json has what they need",
            it.of,
            CommandType::ALL.len(),
            names.join(", ")
        )
    };
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}

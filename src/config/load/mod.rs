//! The sources of settings and their precedence.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use serde_json::{Map, json};

use super::environment::{self, Setting};
use super::read::{Problems, Section, has_unescaped_credentials, list};
use super::webhooks;
use super::{
    Amqp, Config, Delivery, Egress, Engine, Error, Executor, Gateway, Ledger, Log, Ops, Otlp,
    Retry, Role, Safety, Shutdown, Store, Topology,
};

/// The defaults: `config.default.toml`.
pub const DEFAULTS: &str = include_str!("../../../config.default.toml");

/// The sources of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`
    pub file: Option<PathBuf>,
    /// Settings from flags, as dotted keys.
    pub flags: Vec<(String, String)>,
    /// The environment variables that may be settings: `GROUPMQ_…`.
    pub environment: Vec<(String, OsString)>,
}

impl Sources {
    /// Uses the defaults, this file, and the environment of the process.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(environment::PREFIX)
                .then_some((name, value))
        });
        Self {
            file,
            flags: Vec::new(),
            environment: environment.collect(),
        }
    }

    /// Merges the sources; also returns the settings from the environment.
    fn merged(&self) -> Result<(Dict, Vec<Setting>), Error> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
                path: path.clone(),
                source,
            })?;
            figment = figment.merge(Toml::string(text.trim_start_matches('\u{feff}')));
        }
        let malformed = |error: figment::Error| Error::Malformed(error.to_string());
        let known = figment.extract::<Dict>().map_err(malformed)?;
        let settings: Vec<_> = self
            .environment
            .iter()
            .filter_map(|(name, value)| Setting::read(name, value, &known))
            .collect();
        for setting in &settings {
            let Some(value) = &setting.value else {
                let (key, variable) = (setting.key(), &setting.variable);
                let problem = format!("{key}: {variable} is not UTF-8");
                return Err(Error::Invalid(vec![problem]));
            };
            let path = setting.path.iter().map(String::as_str);
            figment = figment.merge(Serialized::globals(nested(path, value)));
        }
        for (key, value) in &self.flags {
            figment = figment.merge(Serialized::globals(nested(key.split('.'), value)));
        }
        let merged = figment.extract::<Dict>().map_err(malformed)?;
        Ok((merged, settings))
    }

    /// Merges the sources and validates the result.
    ///
    /// # Errors
    /// With all problems, by key and without values.
    pub fn load(&self) -> Result<Config, Error> {
        let mut problems = Problems::default();
        let (merged, settings) = self.merged()?;
        let config = read(merged, &mut problems);
        if problems.0.is_empty() {
            return Ok(config);
        }
        let told = problems.0.into_iter().map(|problem| {
            let origin = environment::origin(&settings, &problem.key);
            format!("{}: {}{origin}", problem.key, problem.what)
        });
        Err(Error::Invalid(told.collect()))
    }

    /// The merged settings as TOML, without secrets.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    pub fn printed(&self) -> Result<String, Error> {
        let (mut settings, _) = self.merged()?;
        hide_secrets(&mut settings);
        toml::to_string(&settings).map_err(|error| Error::Malformed(error.to_string()))
    }
}

/// The last keys of settings whose values are always secrets.
const SECRETS: [&str; 6] = [
    "api_key",
    "authorization",
    "hmac_key",
    "key",
    "secrets",
    "value",
];

fn hide_secrets(entries: &mut Dict) {
    for (key, value) in entries {
        if SECRETS.contains(&key.as_str()) {
            *value = figment::value::Value::from("***");
        } else {
            hide(value);
        }
    }
}

fn hide(value: &mut figment::value::Value) {
    match value {
        figment::value::Value::Dict(_, entries) => hide_secrets(entries),
        figment::value::Value::Array(_, values) => values.iter_mut().for_each(hide),
        // The end of the password cannot be determined.
        figment::value::Value::String(_, text) if has_unescaped_credentials(text) => {
            "***".clone_into(text);
        }
        figment::value::Value::String(_, text) => {
            if let Ok(mut url) = url::Url::parse(text)
                && url.password().is_some()
                && url.set_password(Some("***")).is_ok()
            {
                *text = url.into();
            }
        }
        _ => {}
    }
}

/// `a`, `b`, `c` = v as nested tables. Values stay text: see `read`.
fn nested<'a>(path: impl DoubleEndedIterator<Item = &'a str>, value: &str) -> serde_json::Value {
    path.rev().fold(json!(value), |inner, part| {
        serde_json::Value::Object(Map::from_iter([(part.to_owned(), inner)]))
    })
}

fn roles(value: &Value) -> Result<Vec<Role>, String> {
    let roles: Vec<Role> = list(value)?;
    if roles.is_empty() {
        return Err("must contain at least one role".to_owned());
    }
    Ok(roles)
}

fn read(entries: Dict, problems: &mut Problems) -> Config {
    let mut root = Section::new("", entries, problems);
    let roles = root.required("roles", roles);
    let delivery = Delivery::read(root.section("delivery"));
    let mut seen = BTreeSet::new();
    let webhooks = root.tables("webhooks", |table| webhooks::read(table, &mut seen));
    let config = Config {
        roles,
        amqp: Amqp::read(root.section("amqp")),
        topology: Topology::read(root.section("topology")).with_tiers(&delivery.schedule),
        store: Store::read(root.section("store")),
        ledger: Ledger::read(root.section("ledger")),
        engine: Engine::read(root.section("engine")),
        executor: Executor::read(root.section("executor")),
        retry: Retry::read(root.section("retry")),
        safety: Safety::read(root.section("safety")),
        egress: Egress::read(root.section("egress")),
        webhooks: webhooks.into_iter().flatten().collect(),
        delivery,
        gateway: Gateway::read(root.section("gateway")),
        ops: Ops::read(root.section("ops")),
        shutdown: Shutdown::read(root.section("shutdown")),
        otlp: Otlp::read(root.section("otlp")),
        log: Log::read(root.section("log")),
    };
    root.finish();
    config
}

#[cfg(test)]
mod tests;

//! Where settings come from and which source wins.

use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::Dict;
use serde_json::{Map, Value, json};

use super::read::{Problems, Section, list};
use super::{
    Amqp, Config, Engine, Error, Executor, Ledger, Log, Ops, Retry, Role, Safety, Shutdown, Store,
    Topology,
};

/// The defaults, as they stand in `config.default.toml`.
pub const DEFAULTS: &str = include_str!("../../config.default.toml");

/// The prefix of environment variables that are settings.
const PREFIX: &str = "GROUPMQ_";

/// What a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`
    pub file: Option<PathBuf>,
    /// Settings from flags, as dotted keys.
    pub flags: Vec<(String, String)>,
    /// The environment's settings, already split into dotted keys.
    pub environment: Vec<(String, String)>,
}

impl Sources {
    /// The defaults, this file, and the process's environment.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let environment = std::env::vars()
            .filter_map(|(name, value)| {
                let key = name.strip_prefix(PREFIX)?;
                // GROUPMQ_TEST_… belongs to the tests.
                (!key.starts_with("TEST_")).then(|| (key.to_lowercase().replace("__", "."), value))
            })
            .collect();
        Self {
            file,
            flags: Vec::new(),
            environment,
        }
    }

    /// Merges the sources.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    pub fn merged(&self) -> Result<Dict, Error> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
                path: path.clone(),
                source,
            })?;
            figment = figment.merge(Toml::string(&text));
        }
        for (key, value) in self.environment.iter().chain(&self.flags) {
            figment = figment.merge(Serialized::globals(nested(key, value)));
        }
        figment
            .extract::<Dict>()
            .map_err(|error| Error::Malformed(error.to_string()))
    }

    /// Merges and checks everything.
    ///
    /// # Errors
    /// With every problem that was found, by key and without any value.
    pub fn load(&self) -> Result<Config, Error> {
        let mut problems = Problems::default();
        let config = read(self.merged()?, &mut problems);
        if problems.0.is_empty() {
            Ok(config)
        } else {
            Err(Error::Invalid(problems.0))
        }
    }

    /// The merged settings as TOML, with passwords in urls left out.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    pub fn printed(&self) -> Result<String, Error> {
        let mut settings = self.merged()?;
        hide_passwords(&mut settings);
        toml::to_string(&settings).map_err(|error| Error::Malformed(error.to_string()))
    }
}

fn hide_passwords(entries: &mut Dict) {
    for value in entries.values_mut() {
        match value {
            figment::value::Value::Dict(_, entries) => hide_passwords(entries),
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
}

/// `a.b.c` = v as tables within tables. Values stay text: see `read`.
fn nested(key: &str, value: &str) -> Value {
    key.rsplit('.').fold(json!(value), |inner, part| {
        Value::Object(Map::from_iter([(part.to_owned(), inner)]))
    })
}

fn read(entries: Dict, problems: &mut Problems) -> Config {
    let mut root = Section::new("", entries, problems);
    let roles: Vec<Role> = root.required("roles", list);
    if roles.is_empty() {
        root.problem("roles", "must name at least one role");
    }
    let config = Config {
        roles,
        amqp: Amqp::read(root.section("amqp")),
        topology: Topology::read(root.section("topology")),
        store: Store::read(root.section("store")),
        ledger: Ledger::read(root.section("ledger")),
        engine: Engine::read(root.section("engine")),
        executor: Executor::read(root.section("executor")),
        retry: Retry::read(root.section("retry")),
        safety: Safety::read(root.section("safety")),
        ops: Ops::read(root.section("ops")),
        shutdown: Shutdown::read(root.section("shutdown")),
        log: Log::read(root.section("log")),
    };
    root.finish();
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)]) -> Result<Config, Error> {
        let environment = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Sources {
            environment,
            ..Sources::default()
        }
        .load()
    }

    #[test]
    fn the_embedded_defaults_are_valid() {
        let config = with(&[]).unwrap();
        assert_eq!(config.topology.prefix, "groupmq");
        assert_eq!(config.amqp.prefetch, 300);
    }

    #[test]
    fn every_problem_is_named_by_key_and_never_by_value() {
        let Err(Error::Invalid(problems)) = with(&[
            ("amqp.url", "amqp//hunter2@nowhere"),
            ("amqp.prefetch", "many"),
            ("amqp.heartbeat", "10"),
            ("amqp.prefech", "1"),
            ("shutdown.deadline", "0s"),
            ("topology.mode", "maybe"),
        ]) else {
            panic!("wrong settings were accepted");
        };
        let all = problems.join("\n");
        for key in [
            "amqp.url",
            "amqp.prefetch",
            "amqp.heartbeat",
            "amqp.prefech",
            "shutdown.deadline",
            "topology.mode",
        ] {
            assert!(all.contains(&format!("{key}:")), "{key} is not in:\n{all}");
        }
        assert_eq!(problems.len(), 6, "{all}");
        assert!(!all.contains("hunter2"), "{all}");
    }

    #[test]
    fn a_password_of_digits_stays_text() {
        let config = with(&[("engine.sandbox.sessions.zero", "015550000009")]).unwrap();
        let Engine::Sandbox(sandbox) = config.engine;
        let phone = &sandbox.sessions[&"zero".parse().unwrap()];
        assert_eq!(phone.as_str(), "015550000009@c.us");
    }

    #[test]
    fn a_secret_is_read_from_the_file_that_is_named() {
        use secrecy::ExposeSecret;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "amqp://u:p@elsewhere/%2f\n").unwrap();
        let config = with(&[("amqp.url_file", file.to_str().unwrap())]).unwrap();
        assert_eq!(config.amqp.url.expose_secret(), "amqp://u:p@elsewhere/%2f");
    }
}

//! Where settings come from and which source wins.

use std::collections::BTreeSet;
use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use serde_json::{Map, json};

use super::read::{Problems, Section, list};
use super::webhooks;
use super::{
    Amqp, Config, Delivery, Egress, Engine, Error, Executor, Gateway, Ledger, Log, Ops, Otlp,
    Retry, Role, Safety, Shutdown, Store, Topology,
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
                // GROUPMQ_CONFIG names the file (--config), and GROUPMQ_TEST_… belongs to the tests.
                (key != "CONFIG" && !key.starts_with("TEST_"))
                    .then(|| (key.to_lowercase().replace("__", "."), value))
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

    /// The merged settings as TOML, with secrets left out.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    pub fn printed(&self) -> Result<String, Error> {
        let mut settings = self.merged()?;
        hide_secrets(&mut settings);
        toml::to_string(&settings).map_err(|error| Error::Malformed(error.to_string()))
    }
}

/// Settings that are secrets whatever they look like, by their last key.
const SECRETS: [&str; 5] = ["api_key", "hmac_key", "key", "secrets", "value"];

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

/// `a.b.c` = v as tables within tables. Values stay text: see `read`.
fn nested(key: &str, value: &str) -> serde_json::Value {
    key.rsplit('.').fold(json!(value), |inner, part| {
        serde_json::Value::Object(Map::from_iter([(part.to_owned(), inner)]))
    })
}

fn roles(value: &Value) -> Result<Vec<Role>, String> {
    let roles: Vec<Role> = list(value)?;
    if roles.is_empty() {
        return Err("must name at least one role".to_owned());
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
        let Engine::Sandbox(sandbox) = config.engine else {
            panic!("another engine");
        };
        let phone = &sandbox.sessions[&"zero".parse().unwrap()];
        assert_eq!(phone.as_str(), "015550000009@c.us");
    }

    #[test]
    fn printed_settings_hold_no_keys_and_no_passwords() {
        let sources = Sources {
            environment: vec![
                (
                    "gateway.keys.shop.key".to_owned(),
                    "hunter2hunter2hunter2".to_owned(),
                ),
                (
                    "store.url".to_owned(),
                    "postgres://u:hunter2@h/d".to_owned(),
                ),
            ],
            ..Sources::default()
        };
        let printed = sources.printed().unwrap();
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("[gateway.keys.shop]"), "{printed}");
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

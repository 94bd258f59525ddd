//! Settings from environment variables.
//!
//! `GROUPMQ_AMQP__PREFETCH` is `amqp.prefetch`. Values are parsed by `read`.

use std::ffi::OsStr;

use figment::value::{Dict, Value};

/// The prefix of all variables that are settings.
pub(super) const PREFIX: &str = "GROUPMQ_";

/// A table whose keys are chosen by the user, and the table that defines the names.
struct Named {
    table: &'static [&'static str],
    names: &'static [&'static str],
}

const NAMED: [Named; 4] = [
    Named {
        table: &["engine", "sandbox", "sessions"],
        names: &["engine", "sandbox", "sessions"],
    },
    Named {
        table: &["engine", "sandbox", "faults"],
        names: &["engine", "sandbox", "sessions"],
    },
    Named {
        table: &["engine", "waha", "servers"],
        names: &["engine", "waha", "servers"],
    },
    Named {
        table: &["gateway", "keys"],
        names: &["gateway", "keys"],
    },
];

/// A setting from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The name of the variable.
    pub(super) variable: String,
    /// The path: tables, then the key.
    pub(super) path: Vec<String>,
    /// None if the value is not UTF-8.
    pub(super) value: Option<String>,
}

impl Setting {
    /// Reads a variable; none if it is not a setting. `known` are the settings of the file and the defaults.
    pub(super) fn read(variable: &str, value: &OsStr, known: &Dict) -> Option<Self> {
        let rest = variable.strip_prefix(PREFIX)?;
        let value = value.to_str();
        // GROUPMQ_CONFIG is the configuration file (--config), and GROUPMQ_TEST_… is used by the tests.
        let is_other = rest == "CONFIG" || rest.starts_with("TEST_");
        if is_other || is_service_link(rest, value.unwrap_or_default()) {
            return None;
        }
        Some(Self {
            variable: variable.to_owned(),
            path: path(rest, known),
            value: value.map(str::to_owned),
        })
    }

    /// The dotted key, for messages.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }
}

/// Names the variables that a key's value comes from, as the end of a message about the key.
pub(super) fn origin(settings: &[Setting], key: &str) -> String {
    let is_from = |setting: &&Setting| {
        let own = setting.key();
        let rest = own.strip_prefix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest == "_file" || rest.starts_with('.'))
    };
    let from: Vec<_> = settings
        .iter()
        .filter(is_from)
        .map(|setting| setting.variable.as_str())
        .collect();
    if from.is_empty() {
        String::new()
    } else {
        format!(" (from the environment: {})", from.join(", "))
    }
}

/// Whether Kubernetes set the variable: for each Service of a namespace, such as `groupmq-gateway`, it sets
/// `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_PORT` and `…_PORT_8080_TCP`. Settings have two underscores between a
/// table and a key.
fn is_service_link(rest: &str, value: &str) -> bool {
    if rest.contains("__") {
        return false;
    }
    let name = format!("_{rest}");
    let of_service = name.split_once("_SERVICE_PORT").map(|(_, end)| end);
    let of_port = name.rsplit_once("_PORT_").map(|(_, end)| end);
    name.ends_with("_SERVICE_HOST")
        || of_service.is_some_and(|end| end.is_empty() || end.starts_with('_'))
        || (name.ends_with("_PORT") && value.contains("://"))
        || of_port.is_some_and(is_port_and_protocol)
}

/// `8080_TCP`, optionally followed by `_ADDR`, `_PORT` or `_PROTO`.
fn is_port_and_protocol(text: &str) -> bool {
    let mut words = text.split('_');
    let number = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
    let protocol = matches!(words.next(), Some("TCP" | "UDP" | "SCTP"));
    let detail = matches!(words.next(), None | Some("ADDR" | "PORT" | "PROTO"));
    number && protocol && detail && words.next().is_none()
}

/// The path of a variable. Keys of groupmq are lower case; a name chosen by the user keeps its case. A name in
/// capitals alone refers to a known name that differs only in case, since variables are usually in capitals.
fn path(rest: &str, known: &Dict) -> Vec<String> {
    let words: Vec<&str> = rest.split("__").collect();
    let mut path: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let chosen = NAMED.iter().find(|it| {
        let begins = path.get(..it.table.len());
        begins.is_some_and(|begins| begins.iter().eq(it.table.iter()))
    });
    if let Some(Named { table, names }) = chosen
        && let Some(word) = words.get(table.len())
        && let Some(name) = path.get_mut(table.len())
    {
        *name = known_name(word, at(known, names)).unwrap_or_else(|| (*word).to_owned());
    }
    path
}

/// The known name that a name in capitals alone refers to.
fn known_name(word: &str, known: Option<&Dict>) -> Option<String> {
    let known = known?;
    if known.contains_key(word) || word.contains(char::is_lowercase) {
        return None;
    }
    let mut all = known.keys();
    all.find(|it| it.eq_ignore_ascii_case(word)).cloned()
}

/// The table at this path, if there is one.
fn at<'a>(settings: &'a Dict, path: &[&str]) -> Option<&'a Dict> {
    path.iter()
        .try_fold(settings, |table, name| match table.get(*name) {
            Some(Value::Dict(_, inner)) => Some(inner),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variable: &str, value: &str) -> Option<String> {
        let known = Dict::new();
        Setting::read(variable, OsStr::new(value), &known).map(|setting| setting.key())
    }

    #[test]
    fn what_kubernetes_sets_for_its_services_is_no_setting() {
        for service in ["GROUPMQ", "GROUPMQ_GATEWAY", "GROUPMQ_PORT_7_WEBHOOKS"] {
            for (end, value) in [
                ("SERVICE_HOST", "10.96.0.7"),
                ("SERVICE_PORT", "9464"),
                ("SERVICE_PORT_HTTP", "9464"),
                ("SERVICE_PORT_HTTP_METRICS", "9464"),
                ("PORT", "tcp://10.96.0.7:9464"),
                ("PORT_9464_TCP", "tcp://10.96.0.7:9464"),
                ("PORT_9464_TCP_ADDR", "10.96.0.7"),
                ("PORT_9464_TCP_PORT", "9464"),
                ("PORT_9464_TCP_PROTO", "tcp"),
                ("PORT_53_UDP", "udp://10.96.0.7:53"),
            ] {
                let variable = format!("{service}_{end}");
                assert_eq!(read(&variable, value), None, "{variable}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_service_link_is_a_setting() {
        for (variable, value, key) in [
            ("GROUPMQ_PORT", "8080", "port"),
            ("GROUPMQ_SERVICE_PORTS", "1", "service_ports"),
            ("GROUPMQ_PORT_HTTP_TCP", "1", "port_http_tcp"),
            ("GROUPMQ_OPS__SERVICE_HOST", "a", "ops.service_host"),
            (
                "GROUPMQ_ENGINE__SANDBOX__SESSIONS__my_PORT",
                "tcp://",
                "engine.sandbox.sessions.my_PORT",
            ),
        ] {
            assert_eq!(read(variable, value).as_deref(), Some(key), "{variable}");
        }
    }

    #[test]
    fn names_that_somebody_chose_keep_their_case() {
        for (variable, key) in [
            ("GROUPMQ_AMQP__PREFETCH", "amqp.prefetch"),
            (
                "GROUPMQ_ENGINE__SANDBOX__SESSIONS__Shop1",
                "engine.sandbox.sessions.Shop1",
            ),
            (
                "GROUPMQ_ENGINE__SANDBOX__FAULTS__SHOP__ERROR_RATE",
                "engine.sandbox.faults.SHOP.error_rate",
            ),
            (
                "GROUPMQ_ENGINE__WAHA__SERVERS__x__URL",
                "engine.waha.servers.x.url",
            ),
            (
                "GROUPMQ_GATEWAY__KEYS__myShop__KEY",
                "gateway.keys.myShop.key",
            ),
        ] {
            assert_eq!(read(variable, "1").as_deref(), Some(key));
        }
    }

    #[test]
    fn a_name_in_capitals_alone_means_a_known_one() {
        let names = ["default", "Shop"].map(|name| (name.to_owned(), Value::from("1")));
        let sessions = Value::from(Dict::from(names));
        let sandbox = Dict::from([("sessions".to_owned(), sessions)]);
        let engine = Dict::from([("sandbox".to_owned(), Value::from(sandbox))]);
        let known = Dict::from([("engine".to_owned(), Value::from(engine))]);
        let name = |table: &str, name: &str| {
            let variable = format!("GROUPMQ_ENGINE__SANDBOX__{table}__{name}");
            let setting = Setting::read(&variable, OsStr::new("1"), &known).unwrap();
            setting.path.into_iter().nth(3).unwrap()
        };
        assert_eq!(name("SESSIONS", "DEFAULT"), "default");
        assert_eq!(name("FAULTS", "DEFAULT__DELAY"), "default");
        assert_eq!(name("SESSIONS", "SHOP"), "Shop");
        assert_eq!(name("SESSIONS", "shop"), "shop");
        assert_eq!(name("SESSIONS", "Default"), "Default");
        assert_eq!(name("SESSIONS", "OTHER"), "OTHER");
    }
}

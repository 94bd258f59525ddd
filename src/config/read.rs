//! Reads one section key by key, so that *all* problems are found at once.
//!
//! Problems name the key and never the value, which may be a secret. Values from the environment
//! arrive as text (a password of digits must stay text), so every reader accepts text too.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use figment::value::{Dict, Value};
use secrecy::SecretString;

/// Everything that is wrong with the configuration so far, one sentence each.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<String>);

/// One table of the configuration, consumed key by key.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    entries: Dict,
    known: Vec<&'static str>,
    problems: &'a mut Problems,
}

impl<'a> Section<'a> {
    pub(super) fn new(path: &str, entries: Dict, problems: &'a mut Problems) -> Self {
        Self {
            path: path.to_owned(),
            entries,
            known: Vec::new(),
            problems,
        }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub(super) fn problem(&mut self, name: &str, what: impl Display) {
        let key = self.key(name);
        self.problems.0.push(format!("{key}: {what}"));
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.entries.remove(name)
    }

    /// Reads a value that must be there; a stand-in keeps the reading going where it is not.
    pub(super) fn required<T: Default>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> T {
        if let Some(value) = self.optional(name, read) {
            return value;
        }
        // A value that is there but wrong has been reported already.
        let missing = self.key(name);
        if !self
            .problems
            .0
            .iter()
            .any(|problem| problem.starts_with(&format!("{missing}:")))
        {
            self.problem(name, "is missing");
        }
        T::default()
    }

    /// Reads a value that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(name)?;
        read(&value).map_err(|what| self.problem(name, what)).ok()
    }

    /// Reads a secret: from the key itself, or from the file that `<name>_file` names.
    pub(super) fn secret(
        &mut self,
        name: &'static str,
        file_name: &'static str,
    ) -> Option<SecretString> {
        let file = self.optional(file_name, path);
        let direct = self.optional(name, text);
        match file {
            Some(path) => self.file(file_name, &path).map(SecretString::from),
            None => direct.map(SecretString::from),
        }
    }

    /// Reads the files of a client's certificate and its key: both or neither.
    pub(super) fn identity(&mut self) -> Option<(PathBuf, PathBuf)> {
        let certificate = self.optional("certificate_file", path);
        let key = self.optional("key_file", path);
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.problem("key_file", "is needed with certificate_file");
                None
            }
            (None, Some(_)) => {
                self.problem("certificate_file", "is needed with key_file");
                None
            }
        }
    }

    /// Reads a value that must be there, where nothing can stand in for it.
    pub(super) fn wanted<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(name) {
            self.problem(name, "is missing");
        }
        self.optional(name, read)
    }

    /// Whether a key is there and was not read yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Reads the file that a key names.
    pub(super) fn file(&mut self, name: &str, path: &Path) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(content) => Some(content.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                self.problem(name, format!("cannot read {}: {error}", path.display()));
                None
            }
        }
    }

    /// Looks at a path without consuming it.
    pub(super) fn peek_path(&self, name: &str) -> Option<PathBuf> {
        self.entries.get(name).and_then(|value| path(value).ok())
    }

    /// Opens the table below a key.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        let path = self.key(name);
        let entries = match self.take(name) {
            None => Dict::new(),
            Some(Value::Dict(_, entries)) => entries,
            Some(_) => {
                self.problem(name, "must be a table");
                Dict::new()
            }
        };
        Section::new(&path, entries, self.problems)
    }

    /// Opens each table of the list below a key, and hands them to `read` one by one.
    pub(super) fn tables<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(Section<'_>) -> T,
    ) -> Vec<T> {
        let values = match self.take(name) {
            None => Vec::new(),
            Some(Value::Array(_, values)) => values,
            Some(_) => {
                self.problem(name, "must be a list of tables");
                Vec::new()
            }
        };
        let mut all = Vec::new();
        for (number, value) in values.into_iter().enumerate() {
            let path = format!("{}[{number}]", self.key(name));
            match value {
                Value::Dict(_, entries) => {
                    all.push(read(Section::new(&path, entries, self.problems)));
                }
                _ => self.problems.0.push(format!("{path}: must be a table")),
            }
        }
        all
    }

    /// Reads a table whose keys are names that the user chose.
    pub(super) fn each<K: Ord + FromStr, V>(
        mut self,
        mut read: impl FnMut(&str, Section<'_>) -> V,
        value_key: Option<&'static str>,
    ) -> BTreeMap<K, V>
    where
        K::Err: Display,
    {
        let mut all = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.entries) {
            let path = self.key(&name);
            let entries = match (value, value_key) {
                (Value::Dict(_, entries), _) => entries,
                (single, Some(key)) => Dict::from([(key.to_owned(), single)]),
                (_, None) => {
                    self.problem(&name, "must be a table");
                    continue;
                }
            };
            match name.parse() {
                Ok(key) => {
                    let section = Section::new(&path, entries, self.problems);
                    all.insert(key, read(&name, section));
                }
                Err(error) => self.problem(&name, format!("the name {error}")),
            }
        }
        all
    }

    /// Reports every key that nobody asked for, with the nearest that exists.
    pub(super) fn finish(mut self) {
        for name in std::mem::take(&mut self.entries).into_keys() {
            let mut known = self.known.clone();
            known.sort_unstable();
            let known = known.join(", ");
            self.problem(&name, format!("is no setting; here there are: {known}"));
        }
    }
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(_, text) => Ok(text.clone()),
        Value::Num(_, number) => number
            .to_i128()
            .map(|number| number.to_string())
            .ok_or_else(|| "must be a text in quotes".to_owned()),
        _ => Err("must be a text in quotes".to_owned()),
    }
}

pub(super) fn path(value: &Value) -> Result<PathBuf, String> {
    text(value).map(PathBuf::from)
}

pub(super) fn parsed<T: FromStr>(value: &Value) -> Result<T, String>
where
    T::Err: Display,
{
    text(value)?
        .parse()
        .map_err(|error: T::Err| error.to_string())
}

pub(super) fn flag(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(_, flag) => Ok(*flag),
        Value::String(_, text) if text == "true" => Ok(true),
        Value::String(_, text) if text == "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Reads a whole number within a range.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl FnOnce(&Value) -> Result<T, String>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |value| {
        let read = match value {
            Value::Num(_, number) => number.to_i128(),
            Value::String(_, text) => text.parse().ok(),
            _ => None,
        };
        read.and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                )
            })
    }
}

/// Reads a share between 0 and 1.
pub(super) fn share(value: &Value) -> Result<f64, String> {
    let read = match value {
        Value::Num(_, number) => number.to_f64(),
        Value::String(_, text) => text.parse().ok(),
        _ => None,
    };
    read.filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// Reads a duration with its unit, within a range.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl FnOnce(&Value) -> Result<Duration, String> {
    move |value| {
        let read = match value {
            Value::String(_, text) => text.parse::<jiff::SignedDuration>().ok(),
            _ => None,
        };
        let read = read.ok_or_else(|| {
            "must be a duration with its unit in quotes, such as \"30s\"".to_owned()
        })?;
        Duration::try_from(read)
            .ok()
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| {
                format!(
                    "must be a duration from {:?} to {:?}",
                    range.start(),
                    range.end()
                )
            })
    }
}

/// Reads a list of texts; from the environment, separated by commas.
pub(super) fn list<T: FromStr>(value: &Value) -> Result<Vec<T>, String>
where
    T::Err: Display,
{
    let texts = match value {
        Value::Array(_, values) => values.iter().map(text).collect::<Result<Vec<_>, _>>()?,
        Value::String(_, joined) => joined
            .split(',')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect(),
        _ => return Err("must be a list of texts".to_owned()),
    };
    texts
        .iter()
        .map(|text| text.parse().map_err(|error: T::Err| error.to_string()))
        .collect()
}

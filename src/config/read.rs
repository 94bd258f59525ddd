//! Reads a section key by key, so that *all* problems are reported at once.
//!
//! Problems name the key and never the value, which may be a secret. Values from the environment are text (a
//! password of digits must stay text), so every parser accepts text too.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use figment::value::{Dict, Value};
use secrecy::SecretString;

/// `FromStr` of an enum that is configured by one word for each variant.
macro_rules! from_words {
    ($name:ident, $expected:literal, $($word:literal => $variant:ident),+) => {
        impl std::str::FromStr for $name {
            type Err = &'static str;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($expected),
                }
            }
        }
    };
}
pub(super) use from_words;

/// The problems found so far; only the first one of each key.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

/// A problem of a key; the key and `what` form a sentence.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) key: String,
    pub(super) what: String,
}

impl Problems {
    fn add(&mut self, key: String, what: impl Display) {
        // If a secret's file cannot be used, the secret is not reported as missing too.
        let file = format!("{key}_file");
        if !self.0.iter().any(|it| it.key == key || it.key == file) {
            let what = what.to_string();
            self.0.push(Problem { key, what });
        }
    }
}

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
        self.problems.add(key, what);
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.entries.remove(name)
    }

    /// Reads a required value. If it is missing or invalid, a default is returned, so that reading continues.
    pub(super) fn required<T: Default>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> T {
        if let Some(value) = self.optional(name, read) {
            return value;
        }
        // An invalid value has been reported; only the first problem of a key counts.
        self.problem(name, "is missing");
        T::default()
    }

    /// Reads an optional value.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(name)?;
        read(&value).map_err(|what| self.problem(name, what)).ok()
    }

    /// Reads a secret: from the key, or from the file that `<name>_file` names.
    pub(super) fn secret(
        &mut self,
        name: &'static str,
        file_name: &'static str,
    ) -> Option<SecretString> {
        self.checked_secret(name, file_name, |text| {
            // The end has been trimmed, so this is in the middle.
            (!text.contains(char::is_control))
                .then_some(())
                .ok_or("must contain no line break and no other control character")
        })
    }

    /// Reads a secret that is sent as a header value.
    pub(super) fn header_secret(
        &mut self,
        name: &'static str,
        file_name: &'static str,
    ) -> Option<SecretString> {
        self.checked_secret(name, file_name, |text| {
            let fits = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
            fits.then_some(()).ok_or(
                "must contain only ASCII characters, and no control characters such as line breaks: \
                 it is sent in a header",
            )
        })
    }

    fn checked_secret(
        &mut self,
        name: &'static str,
        file_name: &'static str,
        check: impl FnOnce(&str) -> Result<(), &'static str>,
    ) -> Option<SecretString> {
        let file = self.optional(file_name, path);
        let direct = self.optional(name, text);
        let (name, secret) = match file {
            Some(path) => (file_name, self.file(file_name, &path)?),
            None => (name, direct?),
        };
        match check(&secret) {
            Ok(()) => Some(secret.into()),
            Err(what) => {
                self.problem(name, what);
                None
            }
        }
    }

    /// Reads the files of a client certificate and its key: both or neither.
    pub(super) fn identity(&mut self) -> Option<(PathBuf, PathBuf)> {
        let certificate = self.optional("certificate_file", path);
        let key = self.optional("key_file", path);
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.problem("key_file", "is required with certificate_file");
                None
            }
            (None, Some(_)) => {
                self.problem("certificate_file", "is required with key_file");
                None
            }
        }
    }

    /// Reads a required value that has no default.
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

    /// Whether a key exists and has not been read.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Reads the file that a key names.
    pub(super) fn file(&mut self, name: &str, path: &Path) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(content) => Some(trimmed(&content).to_owned()),
            Err(error) => {
                self.problem(name, format!("cannot read {}: {error}", path.display()));
                None
            }
        }
    }

    /// Reads a path without consuming it.
    pub(super) fn peek_path(&self, name: &str) -> Option<PathBuf> {
        self.entries.get(name).and_then(|value| path(value).ok())
    }

    /// Opens the table of a key.
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

    /// Reads each table of the list of a key.
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
                _ => self.problems.add(path, "must be a table"),
            }
        }
        all
    }

    /// Reads a table whose keys are chosen by the user.
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

    /// Reports every key that was not read, with the keys that exist.
    pub(super) fn finish(mut self) {
        for name in std::mem::take(&mut self.entries).into_keys() {
            let mut known = self.known.clone();
            known.sort_unstable();
            let known = known.join(", ");
            self.problem(
                &name,
                format!("is not a setting; the settings here are: {known}"),
            );
        }
    }
}

/// A value without what editors and `echo` add to it: a byte order mark before it, a line break or other white
/// space after it.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim_end()
}

/// The text of a string value.
fn string(value: &Value) -> Option<&str> {
    match value {
        Value::String(_, text) => Some(trimmed(text)),
        _ => None,
    }
}

/// What to do about a URL that [`has_unescaped_credentials`].
pub(super) const UNESCAPED: &str = "contains a #, ?, / or @ that is not percent-encoded: \
     percent-encode the password (# is %23, / is %2F, ? is %3F, @ is %40)";

/// Whether a URL contains an `@` in an implausible place: after a `#`, `?` or `/` that ended user and password too
/// early, or twice.
pub(super) fn has_unescaped_credentials(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    // In http URLs, parsers treat a backslash as a slash.
    let backslash = scheme.starts_with("http");
    let ends = |c: char| matches!(c, '/' | '?' | '#') || (backslash && c == '\\');
    let (authority, behind) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
    authority.matches('@').count() > 1 || behind.contains('@')
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(_, text) => Ok(trimmed(text).to_owned()),
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
    match (value, string(value)) {
        (Value::Bool(_, flag), _) => Ok(*flag),
        (_, Some("true")) => Ok(true),
        (_, Some("false")) => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Parses an integer within a range.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl FnOnce(&Value) -> Result<T, String>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |value| {
        let read = match value {
            Value::Num(_, number) => number.to_i128(),
            _ => string(value).and_then(|text| text.parse().ok()),
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

/// Parses a share from 0 to 1.
pub(super) fn share(value: &Value) -> Result<f64, String> {
    let read = match value {
        Value::Num(_, number) => number.to_f64(),
        _ => string(value).and_then(|text| text.parse().ok()),
    };
    read.filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// Parses a duration with its unit, within a range.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl FnOnce(&Value) -> Result<Duration, String> {
    move |value| {
        let read = string(value).and_then(|text| text.parse::<jiff::SignedDuration>().ok());
        let read = read.ok_or_else(|| {
            "must be a duration with a unit in quotes, such as \"30s\"".to_owned()
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

/// Parses a list; text from the environment is separated by commas.
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
        _ => return Err("must be a list of strings".to_owned()),
    };
    texts
        .iter()
        .map(|text| text.parse().map_err(|error: T::Err| error.to_string()))
        .collect()
}

//! The bodies of WAHA's engines: what they have in common, and which engine makes which.

use serde_json::{Value, json};

use super::model::{Answer, Group};
use super::people::People;
use super::views::Seen;
use super::{Personality, Quirks, gows, noweb, webjs};

/// How one server writes, at one moment.
#[derive(Debug, Clone)]
pub(super) struct Style {
    pub(super) personality: Personality,
    pub(super) quirks: Quirks,
    pub(super) people: People,
    /// In milliseconds.
    pub(super) now: i64,
}

/// A moment in seconds, as whatsmeow writes it.
pub(super) fn moment(seconds: i64) -> String {
    let moment = jiff::Timestamp::from_second(seconds);
    moment.unwrap_or_default().to_string()
}

impl Style {
    pub(super) fn by_lid(&self, group: &Group) -> bool {
        group.by_lid.unwrap_or(self.quirks.lids)
    }

    pub(super) fn id(&self, phone: &str, by_lid: bool) -> String {
        self.people.id(phone, by_lid)
    }

    pub(super) fn public_id(&self, phone: &str, by_lid: bool) -> String {
        self.people.public_id(phone, by_lid)
    }

    pub(super) fn group(&self, seen: &Seen) -> Value {
        match self.personality {
            Personality::Noweb => noweb::metadata(self, seen),
            Personality::Gows => gows::info(self, seen),
            Personality::Webjs => webjs::chat(self, seen),
        }
    }

    pub(super) fn people(&self, group: &Group) -> Value {
        match self.personality {
            Personality::Noweb => noweb::people(self, group),
            Personality::Gows => gows::people(self, group),
            Personality::Webjs => webjs::people(self, group),
        }
    }

    /// The answer to a creation.
    pub(super) fn created(&self, group: &Group, answers: &[Answer]) -> Value {
        match self.personality {
            Personality::Noweb => noweb::created(self, group, answers),
            Personality::Gows => gows::created(self, group, answers),
            Personality::Webjs => webjs::created(group, answers),
        }
    }

    /// The answer about each person.
    pub(super) fn answers(&self, group: &Group, answers: &[Answer], adding: bool) -> Value {
        let each = answers.iter();
        match self.personality {
            Personality::Webjs if adding => webjs::added(answers),
            Personality::Webjs => json!({"status": 200}),
            Personality::Noweb => each
                .map(|it| noweb::answer(self, group, it, self.now))
                .collect(),
            Personality::Gows => each.map(|it| gows::answer(self, group, it)).collect(),
        }
    }
}

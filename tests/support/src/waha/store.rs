//! NOWEB's store: it has the groups of the last list, and what events made of them since (captured:
//! `noweb-store`, `noweb-store-lid`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{noweb, people};

/// The groups of one account.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) loaded: bool,
    groups: BTreeMap<String, Value>,
    /// New groups whose notification is not stored yet.
    pending: Vec<Value>,
}

impl Store {
    pub(super) fn load(&mut self, groups: Vec<Value>) {
        self.loaded = true;
        let by_id = |group: Value| (id_of(&group), group);
        self.groups = groups.into_iter().map(by_id).collect();
    }

    /// All groups, without the people that views do not show.
    pub(super) fn all(&self, hidden: &BTreeMap<String, BTreeSet<String>>) -> Vec<Value> {
        let mut all: Vec<_> = self.groups.values().cloned().collect();
        for group in &mut all {
            let hidden = hidden.get(group["id"].as_str().unwrap_or_default());
            if let (Some(hidden), Some(people)) = (hidden, group["participants"].as_array_mut()) {
                people.retain(|it| {
                    let phone = people::phone(it["id"].as_str().unwrap_or_default());
                    !phone.is_some_and(|phone| hidden.contains(&phone))
                });
            }
        }
        all
    }

    pub(super) fn catch_up(&mut self) {
        for group in std::mem::take(&mut self.pending) {
            self.groups.insert(id_of(&group), group);
        }
    }

    /// Learns of an event; true where that takes a moment.
    pub(super) fn learn(&mut self, event: &str, payload: &Value) -> bool {
        let data = &payload["_data"];
        if event == "group.v2.join" {
            self.pending.push(data.clone());
            return true;
        }
        let id = id_of(&payload["group"]);
        if self.pending.iter().any(|group| id_of(group) == id) {
            self.catch_up();
        }
        if event == "group.v2.leave" {
            self.groups.remove(&id);
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        match payload["type"].as_str() {
            Some(kind) => people_change(group, kind, &payload["_data"]["participants"]),
            None => noweb::merged(group, data),
        }
        false
    }
}

/// Who is added is added by its id alone; `size` stays.
fn people_change(group: &mut Value, kind: &str, changed: &Value) {
    let Some(people) = group["participants"].as_array_mut() else {
        return;
    };
    for id in changed.as_array().into_iter().flatten() {
        let id = if id.is_object() { &id["id"] } else { id };
        match kind {
            "join" => people.push(json!({"id": id, "admin": null})),
            "leave" => people.retain(|it| it["id"] != *id),
            _ => {
                let admin = if kind == "promote" {
                    json!("admin")
                } else {
                    Value::Null
                };
                let found = people.iter_mut().filter(|it| it["id"] == *id);
                found.for_each(|it| it["admin"] = admin.clone());
            }
        }
    }
}

fn id_of(group: &Value) -> String {
    group["id"].as_str().unwrap_or_default().to_owned()
}

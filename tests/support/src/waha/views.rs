//! How groups are seen: what each engine lists, and views that are not whole or not of today.

use serde_json::{Value, json};

use super::actions::{Outcome, Said};
use super::bodies::Style;
use super::errors::{Error, whatsmeow_reads};
use super::model::{Group, Refusal};
use super::{Inner, Personality, Shared, gows, noweb, webjs};

/// A group as a view has it: with some of its people, perhaps, and how many it says it has.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) group: Group,
    pub(super) size: usize,
}

impl Seen {
    pub(super) fn whole(group: &Group) -> Self {
        Self {
            group: group.clone(),
            size: group.members.len(),
        }
    }
}

/// Whether `WhatsApp` itself is asked, where there is a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    IfNeverBefore,
    /// And the store forgets what it had.
    Anew,
}

impl Inner {
    fn seen(&self, group: &Group) -> Seen {
        let mut group = self.frozen.get(&group.id).unwrap_or(group).clone();
        let size = group.members.len();
        if let Some(hidden) = self.hidden.get(&group.id) {
            group.members.retain(|(phone, _)| !hidden.contains(phone));
        }
        Seen { group, size }
    }

    fn shows(&self, group: &Group, account: &str, left_too: bool) -> bool {
        let group = self.frozen.get(&group.id).unwrap_or(group);
        let left = left_too && group.former.contains_key(account);
        group.role(account).is_some() || left
    }

    /// What an account sees of its groups.
    fn seen_by(&self, account: &str, left_too: bool) -> Vec<Seen> {
        let groups = self.world.groups.values();
        groups
            .filter(|group| self.shows(group, account, left_too))
            .filter(|group| !self.omitted.contains(&group.id))
            .map(|group| self.seen(group))
            .collect()
    }

    /// What `WhatsApp` tells NOWEB of an account's groups.
    fn fetched(&self, style: &Style, account: &str) -> Vec<Value> {
        let seen = self.seen_by(account, false);
        seen.iter().map(|seen| style.group(seen)).collect()
    }

    /// The group, for who is in it.
    pub(super) fn seen_at(&self, id: &str, account: &str) -> Result<Seen, Refusal> {
        let group = self.world.groups.get(id).ok_or(Refusal::Unknown)?;
        if self.shows(group, account, false) {
            Ok(self.seen(group))
        } else if group.former.contains_key(account) {
            Err(Refusal::Outside)
        } else {
            Err(Refusal::Unknown)
        }
    }
}

impl Shared {
    /// All groups of an account, as NOWEB has them; what `WhatsApp` is asked for is posted.
    fn noweb_groups(&self, session: &str, account: &str, fetch: Fetch) -> Vec<Value> {
        let style = self.style();
        let store = style.quirks.store;
        let mut inner = self.lock();
        let loaded = inner.stores.get(account).is_some_and(|store| store.loaded);
        let mut posts = Vec::new();
        if !store || !loaded || fetch == Fetch::Anew {
            let all = inner.fetched(&style, account);
            posts = all.iter().map(|it| noweb::listed(&style, it)).collect();
            inner
                .stores
                .entry(account.to_owned())
                .or_default()
                .load(all);
        }
        let groups = inner
            .stores
            .get(account)
            .map(|store| store.all(&inner.hidden));
        drop(inner);
        for (event, payload) in posts {
            self.send(session, event, &payload);
        }
        groups.unwrap_or_default()
    }

    /// All groups, straight from `WhatsApp`; the store keeps what it has beside them.
    fn noweb_fresh(&self, session: &str, account: &str) -> Vec<Value> {
        let style = self.style();
        let mut inner = self.lock();
        let all = inner.fetched(&style, account);
        inner
            .stores
            .entry(account.to_owned())
            .or_default()
            .merge(&all);
        drop(inner);
        for group in &all {
            let (event, payload) = noweb::listed(&style, group);
            self.send(session, event, &payload);
        }
        all
    }

    pub(super) fn noweb_group(
        &self,
        id: &str,
        session: &str,
        account: &str,
    ) -> Result<Value, Error> {
        let groups = self.noweb_groups(session, account, Fetch::IfNeverBefore);
        let found = groups.into_iter().find(|group| group["id"] == id);
        found.ok_or_else(|| Error::NotListed(id.to_owned()))
    }

    pub(super) fn list(&self, session: &str, account: &str, query: &str) -> Said {
        if self.quirks().no_groups {
            return Said::Json(json!([]));
        }
        let groups = page(self.listed(session, account), query);
        if self.personality != Personality::Noweb {
            return Said::Json(Value::Array(groups));
        }
        let by_id = groups.into_iter().map(|group| {
            let id = group["id"].as_str().unwrap_or_default().to_owned();
            (id, group)
        });
        Said::Json(Value::Object(by_id.collect()))
    }

    fn listed(&self, session: &str, account: &str) -> Vec<Value> {
        if self.personality == Personality::Noweb {
            return self.noweb_groups(session, account, Fetch::IfNeverBefore);
        }
        let style = self.style();
        let inner = self.lock();
        // WEBJS goes on listing groups that were left.
        let left_too = self.personality == Personality::Webjs;
        let seen = inner.seen_by(account, left_too);
        let mut groups: Vec<_> = seen.iter().map(|seen| style.group(seen)).collect();
        if self.personality == Personality::Gows {
            for (n, (group, seen)) in groups.iter_mut().zip(&seen).enumerate() {
                if inner.stubs.contains(&seen.group.id) || (style.quirks.stubs && n == 0) {
                    *group = gows::stub(&seen.group);
                }
            }
        }
        groups
    }

    pub(super) fn count(&self, session: &str, account: &str) -> Said {
        let count = self.listed(session, account).len();
        Said::Json(json!({ "count": count }))
    }

    pub(super) fn refresh(&self, session: &str, account: &str) -> Said {
        if self.personality == Personality::Noweb {
            self.noweb_groups(session, account, Fetch::Anew);
        }
        Said::Json(json!({"success": true}))
    }

    pub(super) fn get(&self, id: &str, session: &str, account: &str) -> Outcome {
        let style = self.style();
        if style.quirks.no_groups {
            return Ok(Said::Nothing);
        }
        if self.personality == Personality::Noweb {
            return self.noweb_group(id, session, account).map(Said::Json);
        }
        let inner = self.lock();
        if self.personality == Personality::Gows {
            let seen = inner.seen_at(id, account).map_err(whatsmeow_reads)?;
            return Ok(Said::Json(if inner.stubs.contains(id) {
                gows::stub(&seen.group)
            } else {
                style.group(&seen)
            }));
        }
        // The chat stays when its group is left; of a chat that is none, nothing is said.
        let known = inner.world.groups.get(id);
        let known = known.filter(|group| inner.shows(group, account, true));
        let body = known.map(|group| style.group(&inner.seen(group)));
        Ok(body.map_or(Said::Nothing, Said::Json))
    }

    pub(super) fn people_of(&self, id: &str, session: &str, account: &str) -> Outcome {
        let style = self.style();
        if self.personality == Personality::Noweb {
            let groups = self.noweb_fresh(session, account);
            let found = groups.into_iter().find(|group| group["id"] == id);
            let message = "Cannot read properties of undefined (reading 'participants')";
            let found = found.ok_or_else(|| Error::Thrown(None, message.to_owned()))?;
            return Ok(Said::Json(found["participants"].clone()));
        }
        let seen = self.lock().seen_at(id, account);
        Ok(Said::Json(style.people(&self.read(seen)?.group)))
    }

    pub(super) fn read(&self, seen: Result<Seen, Refusal>) -> Result<Seen, Error> {
        seen.map_err(|refusal| match self.personality {
            Personality::Gows => whatsmeow_reads(refusal),
            _ => refusal.into(),
        })
    }

    pub(super) fn people_v2(&self, id: &str, session: &str, account: &str) -> Outcome {
        let style = self.style();
        if self.personality == Personality::Noweb && !style.quirks.secret_phones {
            let group = self.noweb_group(id, session, account)?;
            return Ok(Said::Json(noweb::people_v2(&group)));
        }
        let seen = self.lock().seen_at(id, account);
        let group = self.read(seen)?.group;
        Ok(Said::Json(match self.personality {
            Personality::Webjs => webjs::people_v2(&style, &group),
            _ => gows::people_v2(&style, &group),
        }))
    }
}

/// Sorted, without what is excluded, and one page of it.
fn page(mut groups: Vec<Value>, query: &str) -> Vec<Value> {
    let asked = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(it, _)| *it == name).map(|(_, value)| value);
        values.next().filter(|value| !value.is_empty())
    };
    if asked("sortBy") == Some("subject") {
        let subject = |group: &Value| {
            let names = ["subject", "Name", "name"].map(|name| group[name].as_str());
            names
                .into_iter()
                .flatten()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        groups.sort_by_key(subject);
    }
    if asked("sortOrder") == Some("desc") {
        groups.reverse();
    }
    if asked("exclude") == Some("participants") {
        for group in groups.iter_mut().filter_map(Value::as_object_mut) {
            group.remove("participants");
            group.remove("Participants");
            if let Some(metadata) = group
                .get_mut("groupMetadata")
                .and_then(Value::as_object_mut)
            {
                metadata.remove("participants");
            }
        }
    }
    let number = |name: &str| asked(name).and_then(|value| value.parse().ok());
    let rest = groups
        .into_iter()
        .skip(number("offset").unwrap_or_default());
    match number("limit") {
        Some(limit) if limit > 0 => rest.take(limit).collect(),
        _ => rest.collect(),
    }
}

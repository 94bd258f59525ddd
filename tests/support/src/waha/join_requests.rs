//! Joining by the link, and requests that an admin has to approve (WAHA 2026.8.2).
//!
//! The join and its errors are as captured (`noweb-*`, `gows-lid`: "join by link", "join-info"); WhatsApp's codes are
//! whatsapp-rust's and whatsmeow's (`FEATURES.md`, section 5). Requests were not captured: routes, bodies and events
//! are as WAHA's sources and documents have them (`WAHA-API.md`, section 2; `FEATURES.md`, sections 1 and 2).

use serde_json::{Value, json};

use super::actions::{Outcome, Said};
use super::bodies::Style;
use super::errors::Error;
use super::model::{Answer, Change, Group, JoinRequest, Refusal};
use super::people::public;
use super::{Personality, Shared, now_ms};

impl Group {
    /// Whether the link leads an account to the group: not who was removed from it.
    pub(super) fn may_follow(&self, account: &str) -> Result<(), Refusal> {
        match self.former.get(account) {
            Some(false) => Err(Refusal::Invalid(405)),
            _ => Ok(()),
        }
    }

    /// Somebody asks to join, by the link or as somebody whom a member wants to add.
    pub(super) fn ask(&mut self, phone: &str, added_by: Option<&str>) -> Option<Change> {
        if self.requests.iter().any(|it| it.phone == phone) {
            return None;
        }
        let request = JoinRequest {
            phone: phone.to_owned(),
            method: added_by.map_or("invite_link", |_| "non_admin_add"),
            added_by: added_by.map(ToOwned::to_owned),
            at: now_ms() / 1_000,
        };
        self.requests.push(request.clone());
        Some(Change::Request("created", request))
    }

    pub(super) fn forget(&mut self, phone: &str) -> Option<JoinRequest> {
        let index = self.requests.iter().position(|it| it.phone == phone)?;
        Some(self.requests.remove(index))
    }

    pub(super) fn decide(
        &mut self,
        account: &str,
        people: &[String],
        approves: bool,
    ) -> Result<(Vec<Answer>, Vec<Change>), Refusal> {
        self.admin(account, 403)?;
        let (mut answers, mut changes, mut joined) = (Vec::new(), Vec::new(), Vec::new());
        for phone in people {
            let request = self.forget(phone);
            let code = if request.is_some() { 200 } else { 404 };
            answers.push((phone.clone(), code));
            match request {
                Some(_) if approves => {
                    self.enter(phone);
                    joined.push(phone.clone());
                }
                Some(request) => changes.push(Change::Request("rejected", request)),
                None => {}
            }
        }
        if !joined.is_empty() {
            changes.push(Change::Joined(joined));
        }
        Ok((answers, changes))
    }
}

impl Shared {
    /// Baileys reads the group of the answer alone, which is not there while an admin has to approve; whatsmeow
    /// reads both. Who is in it already gets 304; whatsapp-web.js tells the group (inferred).
    pub(super) fn join(&self, account: &str, body: &Value) -> Outcome {
        self.documented(body, &[("code", Value::is_string)]);
        let code = body["code"].as_str().unwrap_or_default();
        let mut inner = self.lock();
        let group = inner.world.invited(code);
        let group = group.map_err(|refusal| self.not_invited(refusal))?;
        let is_webjs = self.personality == Personality::Webjs;
        if group.role(account).is_some() && !is_webjs {
            return Err(Error::WhatsApp(304));
        }
        group.may_follow(account)?;
        let waits = group.approval && group.role(account).is_none();
        let changes = if waits {
            group.ask(account, None).into_iter().collect()
        } else {
            group.join(account)
        };
        let group = group.clone();
        drop(inner);
        self.tell_all(&group, account, &changes);
        Ok(Said::Json(match self.personality {
            Personality::Noweb if waits => json!({}),
            _ => json!({ "id": group.id }),
        }))
    }

    pub(super) fn join_requests(&self, id: &str, account: &str) -> Outcome {
        let style = self.style();
        let mut inner = self.lock();
        let group = inner.world.group(id, account)?;
        group.admin(account, 403)?;
        let requests = group.requests.iter();
        let listed = requests.map(|it| {
            let mut body = requester(&style, group, it);
            let added_by = it.added_by.as_ref();
            body["addedById"] = json!(added_by.map(|it| style.public_id(it, style.by_lid(group))));
            body["parentGroupId"] = Value::Null;
            body["timestamp"] = json!(it.at);
            body
        });
        Ok(Said::Json(listed.collect()))
    }

    /// One of WEBJS's results may stand for all.
    pub(super) fn decide(&self, id: &str, account: &str, body: &Value, approves: bool) -> Outcome {
        self.documented(body, &[("participants", Value::is_array)]);
        let people = self.named(body)?;
        let style = self.style();
        let mut inner = self.lock();
        let group = inner.world.group(id, account)?;
        let (answers, changes) = group.decide(account, &people, approves)?;
        let group = group.clone();
        drop(inner);
        self.tell_all(&group, account, &changes);
        let first = answers.first().map(|(_, code)| *code);
        let alike = answers.iter().all(|(_, code)| Some(*code) == first);
        let one_for_all = self.personality == Personality::Webjs && answers.len() > 1 && alike;
        let answers = answers
            .iter()
            .take(if one_for_all { 1 } else { answers.len() });
        let said = answers.map(|(phone, code)| {
            let id = style.public_id(phone, style.by_lid(&group));
            let named = (!one_for_all).then_some(id);
            let mut said = json!({"requesterId": named, "success": *code == 200});
            if *code != 200 {
                said["error"] = json!(code);
            }
            said
        });
        Ok(Said::Json(said.collect()))
    }
}

/// Who asks and how, as each engine has it: GOWS has no phone in groups by lid, and no method.
fn requester(style: &Style, group: &Group, request: &JoinRequest) -> Value {
    let id = style.public_id(&request.phone, style.by_lid(group));
    match style.personality {
        Personality::Gows => json!({"requesterId": id, "requestMethod": null}),
        _ => json!({
            "requesterId": id, "requesterPn": public(&request.phone), "requestMethod": request.method,
        }),
    }
}

/// What is posted of a request, to admins; WEBJS posts that it was made, and no more.
pub(super) fn event(
    style: &Style,
    group: &Group,
    actor: &str,
    (action, request): (&str, &JoinRequest),
    account: &str,
) -> Vec<(&'static str, Value)> {
    let is_webjs = style.personality == Personality::Webjs;
    if group.admin(account, 403).is_err() || (is_webjs && action != "created") {
        return Vec::new();
    }
    let author = style.public_id(actor, style.by_lid(group));
    let mut payload = requester(style, group, request);
    payload["group"] = json!({"id": group.id});
    payload["action"] = json!(action);
    payload["timestamp"] = json!(if is_webjs {
        style.now / 1_000
    } else {
        style.now
    });
    payload["_data"] = match style.personality {
        Personality::Gows => json!({"JID": group.id, "Sender": author}),
        _ => json!({"id": group.id, "author": author}),
    };
    vec![("group.v2.participants.join-request", payload)]
}

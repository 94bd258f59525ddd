//! What the routes about groups do to the model, and how each engine answers.

use serde_json::{Value, json};

use super::errors::{Error, no_list, not_implemented, whatsmeow_reads};
use super::model::{Answer, Change, Group, Refusal};
use super::{Personality, Shared, now_ms, people};

/// What a request comes to.
pub(super) enum Said {
    Json(Value),
    Text(String),
    Nothing,
}

pub(super) type Outcome = Result<Said, Error>;

/// A field of a body, and what it must be.
type Field = (&'static str, fn(&Value) -> bool);

/// The longest subject.
const LONGEST: usize = 100;

impl Shared {
    pub(super) fn create(&self, account: &str, body: &Value) -> Outcome {
        self.documented(
            body,
            &[
                ("name", Value::is_string),
                ("participants", Value::is_array),
            ],
        );
        let people = self.named(body)?;
        let name = body["name"].as_str().unwrap_or_default();
        let style = self.style();
        let mut inner = self.lock();
        let (id, answers) = inner.world.create(account, name, &people, now_ms() / 1_000);
        let group = inner.world.groups.get(&id).cloned();
        drop(inner);
        let Some(group) = group else {
            return Ok(Said::Nothing);
        };
        self.tell(&group, account, &Change::Created);
        Ok(Said::Json(style.created(&group, &answers)))
    }

    /// NOWEB and GOWS have no chat to delete.
    pub(super) fn delete(&self, id: &str, account: &str) -> Outcome {
        if self.personality != Personality::Webjs {
            return Err(not_implemented(self.personality));
        }
        if let Some(group) = self.lock().world.groups.get_mut(id) {
            group.former.remove(account);
        }
        Ok(Said::Json(json!(true)))
    }

    pub(super) fn leave(&self, id: &str, account: &str) -> Outcome {
        let mut inner = self.lock();
        let group = inner.world.group(id, account)?;
        let changes = group.leave(account);
        let group = group.clone();
        drop(inner);
        self.tell_all(&group, account, &changes);
        Ok(match self.personality {
            Personality::Webjs => Said::Json(json!({"status": 200})),
            _ => Said::Nothing,
        })
    }

    pub(super) fn subject(&self, id: &str, account: &str, body: &Value) -> Outcome {
        self.documented(body, &[("subject", Value::is_string)]);
        let subject = body["subject"].as_str();
        if subject.is_none() && self.personality == Personality::Noweb {
            let message = "The first argument must be of type string or an instance of Buffer, ArrayBuffer, or Array or an Array-like Object. Received undefined";
            let code = Some("ERR_INVALID_ARG_TYPE");
            return Err(Error::Thrown(code, message.to_owned()));
        }
        let subject = subject.unwrap_or_default().to_owned();
        let valid = subject.chars().count() <= LONGEST;
        let now = now_ms() / 1_000;
        self.edit(id, account, Change::Subject, |group| {
            if !valid {
                return Err(Refusal::Invalid(406));
            }
            group.subject_set = now;
            Ok(std::mem::replace(&mut group.subject, subject.clone()) != subject)
        })
    }

    pub(super) fn description(&self, id: &str, account: &str, body: &Value) -> Outcome {
        self.documented(body, &[("description", Value::is_string)]);
        let text = body["description"].as_str().unwrap_or_default().to_owned();
        let refuses_none = self.personality == Personality::Gows && self.quirks().newer;
        if refuses_none && text.trim().is_empty() {
            let message = ["description should not be empty"];
            let body = json!({"message": message, "error": "Bad Request", "statusCode": 400});
            return Err(Error::Status(400, body));
        }
        self.edit(id, account, Change::Description, |group| {
            Ok(std::mem::replace(&mut group.description, text.clone()) != text)
        })
    }

    /// WEBJS says true or false, the others nothing or 500.
    pub(super) fn edit(
        &self,
        id: &str,
        account: &str,
        change: Change,
        edit: impl FnOnce(&mut Group) -> Result<bool, Refusal>,
    ) -> Outcome {
        let webjs = self.personality == Personality::Webjs;
        let mut inner = self.lock();
        let edited = inner.world.group(id, account).and_then(|group| {
            let changes = group.edit(account, change, edit)?;
            Ok((group.clone(), changes))
        });
        drop(inner);
        match edited {
            Err(_) if webjs => Ok(Said::Json(json!(false))),
            Err(refusal) => Err(refusal.into()),
            Ok((group, changes)) => {
                self.tell_all(&group, account, &changes);
                Ok(if webjs {
                    Said::Json(json!(true))
                } else {
                    Said::Nothing
                })
            }
        }
    }

    pub(super) fn add(&self, id: &str, account: &str, body: &Value) -> Outcome {
        self.documented(body, &[("participants", Value::is_array)]);
        let people = self.named(body)?;
        let style = self.style();
        let mut inner = self.lock();
        let found = inner.world.group(id, account).and_then(|group| {
            group.lets_add(account)?;
            Ok(group)
        });
        let group = match found {
            Ok(group) => group,
            Err(_) if self.personality == Personality::Webjs => {
                let words = "AddParticipantsError: You have no admin rights to add a participant to a group";
                return Ok(Said::Text(words.to_owned()));
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let (answers, changes) = group.add(&people);
        let group = group.clone();
        drop(inner);
        self.tell_all(&group, account, &changes);
        Ok(Said::Json(style.answers(&group, &answers, true)))
    }

    pub(super) fn change_people(
        &self,
        id: &str,
        account: &str,
        body: &Value,
        act: impl FnOnce(&mut Group, &str, &[String]) -> Result<(Vec<Answer>, Vec<Change>), Refusal>,
    ) -> Outcome {
        self.documented(body, &[("participants", Value::is_array)]);
        let people = self.named(body)?;
        let style = self.style();
        let webjs = self.personality == Personality::Webjs;
        if webjs && style.quirks.silent_refusals {
            return Ok(Said::Json(json!({"status": 200})));
        }
        let mut inner = self.lock();
        let acted = inner.world.group(id, account).and_then(|group| {
            let (answers, changes) = act(group, account, &people)?;
            Ok((group.clone(), answers, changes))
        });
        drop(inner);
        match acted {
            // The app refuses, and whatsapp-web.js does not notice.
            Err(_) if webjs => Ok(Said::Json(json!({"status": 200}))),
            Err(refusal) => Err(refusal.into()),
            Ok((group, answers, changes)) => {
                self.tell_all(&group, account, &changes);
                Ok(Said::Json(style.answers(&group, &answers, false)))
            }
        }
    }

    pub(super) fn link(&self, id: &str, account: &str, revoke: bool) -> Outcome {
        let quirks = self.quirks();
        let mut inner = self.lock();
        let code = inner.world.code();
        let told = inner.world.group(id, account).and_then(|group| {
            let changes = if revoke {
                group.revoke(account, code)?
            } else {
                Vec::new()
            };
            Ok((group.link(account)?, group.clone(), changes))
        });
        drop(inner);
        let (code, group, changes) = match told {
            Ok(told) => told,
            // `undefined`
            Err(_) if self.personality == Personality::Webjs => return Ok(Said::Nothing),
            Err(refusal) if self.personality == Personality::Gows => {
                return Err(whatsmeow_reads(refusal));
            }
            Err(refusal) => return Err(refusal.into()),
        };
        self.tell_all(&group, account, &changes);
        let link = quirks.invite_is_link || self.personality == Personality::Gows;
        Ok(Said::Text(if link {
            format!("https://chat.whatsapp.com/{code}")
        } else {
            code
        }))
    }

    /// whatsmeow does not tell the name of a group that one is not in yet.
    pub(super) fn join_info(&self, account: &str, code: &str) -> Outcome {
        let style = self.style();
        let mut inner = self.lock();
        let group = inner.world.invited(code);
        let group = group.and_then(|group| group.may_follow(account).map(|()| group.clone()));
        let group = group.map_err(|refusal| self.not_invited(refusal))?;
        drop(inner);
        let mut body = style.group(&super::views::Seen::whole(&group));
        if self.personality == Personality::Gows {
            body["Name"] = json!("");
        }
        Ok(Said::Json(body))
    }

    pub(super) fn not_invited(&self, refusal: Refusal) -> Error {
        match self.personality {
            Personality::Gows => whatsmeow_reads(refusal),
            _ => refusal.into(),
        }
    }

    /// WAHA takes other bodies too; what is not as documented is kept.
    pub(super) fn documented(&self, body: &Value, wanted: &[Field]) {
        let count = body.as_object().map_or(0, serde_json::Map::len);
        let wrong: Vec<_> = wanted
            .iter()
            .filter(|(name, is_valid)| !body.get(*name).is_some_and(is_valid))
            .map(|(name, _)| *name)
            .collect();
        if !wrong.is_empty() || count != wanted.len() {
            self.violation(&format!(
                "a body that is not as documented: {wrong:?}, {count} fields"
            ));
        }
    }

    /// The people of a body, as `WhatsApp` knows them.
    pub(super) fn named(&self, body: &Value) -> Result<Vec<String>, Error> {
        let entries = body["participants"].as_array().ok_or_else(no_list)?;
        let ids = entries.iter().map(|entry| {
            let id = entry.get("id").and_then(Value::as_str);
            let alone = entry.as_object().is_some_and(|entry| entry.len() == 1);
            id.filter(|_| alone).and_then(people::phone)
        });
        let Some(ids) = ids.collect::<Option<Vec<_>>>() else {
            self.violation("participants that are not [{\"id\": …}]");
            return Err(Error::WhatsApp(400));
        };
        // WAHA#266 and its kin: one number that is none fails them all.
        let is_none = |id: &String| {
            id.starts_with("000") || (id.starts_with("99900") && id.ends_with("0400"))
        };
        if ids.iter().any(is_none) {
            return Err(Error::WhatsApp(400));
        }
        let mut inner = self.lock();
        let ids = ids.into_iter().map(|id| inner.people.own_form(id));
        let ids: Vec<_> = ids.collect();
        inner.met.extend(ids.iter().cloned());
        Ok(ids)
    }
}

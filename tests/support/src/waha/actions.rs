//! What the routes about groups do to the model, and how each engine tells of it.

use serde_json::{Value, json};

use super::bodies::lid;
use super::model::{Answer, Change, Refusal, Role};
use super::routes::{Error, Outcome, Said};
use super::{Personality, Shared, now_ms};

impl Shared {
    pub(super) fn list(&self, account: &str) -> Said {
        let quirks = self.quirks();
        let inner = self.lock();
        // WEBJS goes on listing groups that were left.
        let groups: Vec<_> = if self.personality == Personality::Webjs {
            let known = |group: &&super::model::Group| {
                group.role(account).is_some() || group.former.contains_key(account)
            };
            inner.world.groups.values().filter(known).collect()
        } else {
            inner.world.of(account)
        };
        Said::Json(self.style(&quirks).groups(&groups))
    }

    pub(super) fn create(&self, account: &str, body: &Value) -> Outcome {
        self.fields(
            body,
            &[
                ("name", Value::is_string),
                ("participants", Value::is_array),
            ],
        )?;
        let people = self.named(body)?;
        let name = body["name"].as_str().unwrap_or_default();
        let quirks = self.quirks();
        let mut inner = self.lock();
        let (id, answers) = inner.world.create(account, name, &people, now_ms() / 1_000);
        let group = inner.world.groups.get(&id).cloned();
        drop(inner);
        let Some(group) = group else {
            return Ok(Said::Nothing);
        };
        self.tell(&group, &Change::Created);
        Ok(Said::Json(self.style(&quirks).created(&group, &answers)))
    }

    pub(super) fn get(&self, id: &str, account: &str) -> Outcome {
        let quirks = self.quirks();
        let mut inner = self.lock();
        if self.personality == Personality::Webjs {
            // The chat stays when its group is left; of a chat that is none, nothing is said.
            let known = inner.world.groups.get(id);
            let known = known.filter(|group| {
                group.role(account).is_some() || group.former.contains_key(account)
            });
            return Ok(known.map_or(Said::Nothing, |group| {
                Said::Json(self.style(&quirks).group(group))
            }));
        }
        let group = inner.world.group(id, account)?;
        Ok(Said::Json(self.style(&quirks).group(group)))
    }

    pub(super) fn people_v2(&self, id: &str, account: &str) -> Outcome {
        let mut inner = self.lock();
        let group = inner.world.group(id, account)?;
        let people = group.members.iter().map(|(phone, role)| {
            let role = match role {
                Role::Member => "participant",
                Role::Admin => "admin",
                Role::Creator => "superadmin",
            };
            json!({"id": lid(phone), "pn": format!("{phone}@c.us"), "role": role})
        });
        Ok(Said::Json(people.collect()))
    }

    /// NOWEB and GOWS have no chat to delete.
    pub(super) fn delete(&self, id: &str, account: &str) -> Outcome {
        if self.personality != Personality::Webjs {
            let body = json!({"statusCode": 422, "message": "The method is not implemented by the engine.", "error": "Unprocessable Entity"});
            return Err(Error::Status(422, body));
        }
        let mut inner = self.lock();
        let known = inner.world.groups.get_mut(id);
        if let Some(group) = known {
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
        for change in &changes {
            self.tell(&group, change);
        }
        Ok(match self.personality {
            Personality::Webjs => Said::Json(json!({"status": 200})),
            _ => Said::Nothing,
        })
    }

    pub(super) fn subject(&self, id: &str, account: &str, body: &Value) -> Outcome {
        self.fields(body, &[("subject", Value::is_string)])?;
        let subject = body["subject"].as_str().unwrap_or_default().to_owned();
        self.edit(id, account, Change::Subject, |group| {
            std::mem::replace(&mut group.subject, subject.clone()) != subject
        })
    }

    pub(super) fn description(&self, id: &str, account: &str, body: &Value) -> Outcome {
        self.fields(body, &[("description", Value::is_string)])?;
        let text = body["description"].as_str().unwrap_or_default().to_owned();
        if self.personality == Personality::Gows && text.trim().is_empty() {
            let body = json!({"statusCode": 400, "message": ["description should not be empty"], "error": "Bad Request"});
            return Err(Error::Status(400, body));
        }
        self.edit(id, account, Change::Description, |group| {
            std::mem::replace(&mut group.description, text.clone()) != text
        })
    }

    pub(super) fn lock_info(&self, id: &str, account: &str, body: &Value) -> Outcome {
        self.fields(body, &[("adminsOnly", Value::is_boolean)])?;
        let on = body["adminsOnly"] == true;
        self.edit(id, account, Change::Locked, |group| {
            std::mem::replace(&mut group.locked, on) != on
        })
    }

    /// WEBJS says true or false, the others nothing or 500.
    pub(super) fn edit(
        &self,
        id: &str,
        account: &str,
        change: Change,
        edit: impl FnOnce(&mut super::model::Group) -> bool,
    ) -> Outcome {
        let webjs = self.personality == Personality::Webjs;
        let mut inner = self.lock();
        let edited = inner.world.group(id, account);
        let edited = edited.and_then(|group| {
            let changes = group.edit(account, change, edit)?;
            Ok((group.clone(), changes))
        });
        drop(inner);
        match edited {
            Err(_) if webjs => Ok(Said::Json(json!(false))),
            Err(refusal) => Err(refusal.into()),
            Ok((group, changes)) => {
                for change in &changes {
                    self.tell(&group, change);
                }
                Ok(if webjs {
                    Said::Json(json!(true))
                } else {
                    Said::Nothing
                })
            }
        }
    }

    pub(super) fn add(&self, id: &str, account: &str, body: &Value) -> Outcome {
        self.fields(body, &[("participants", Value::is_array)])?;
        let people = self.named(body)?;
        let quirks = self.quirks();
        let mut inner = self.lock();
        let group = match inner.world.group(id, account) {
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
        for change in &changes {
            self.tell(&group, change);
        }
        Ok(Said::Json(self.style(&quirks).answers(&answers, true)))
    }

    pub(super) fn people(
        &self,
        id: &str,
        account: &str,
        body: &Value,
        act: impl FnOnce(
            &mut super::model::Group,
            &str,
            &[String],
        ) -> Result<(Vec<Answer>, Vec<Change>), Refusal>,
    ) -> Outcome {
        self.fields(body, &[("participants", Value::is_array)])?;
        let people = self.named(body)?;
        let quirks = self.quirks();
        let webjs = self.personality == Personality::Webjs;
        if webjs && quirks.silent_refusals {
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
                for change in &changes {
                    self.tell(&group, change);
                }
                Ok(Said::Json(self.style(&quirks).answers(&answers, false)))
            }
        }
    }

    pub(super) fn link(&self, id: &str, account: &str, revoke: bool) -> Outcome {
        let quirks = self.quirks();
        let mut inner = self.lock();
        let code = inner.world.code();
        let told = inner.world.group(id, account).and_then(|group| {
            group.link(account)?;
            if revoke {
                group.invite = code;
            }
            group.link(account)
        });
        match told {
            // `undefined`
            Err(_) if self.personality == Personality::Webjs => Ok(Said::Nothing),
            Err(refusal) => Err(refusal.into()),
            Ok(code) if quirks.invite_is_link => {
                Ok(Said::Text(format!("https://chat.whatsapp.com/{code}")))
            }
            Ok(code) => Ok(Said::Text(code)),
        }
    }
}

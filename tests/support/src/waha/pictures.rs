//! The picture of a group. Captured: that there is none. The rest is as the documents and sources have it
//! (`WAHA-API.md`, section 2; `FEATURES.md`, 1.1): `{"success": …}`, and nothing is posted.

use serde_json::{Value, json};

use super::actions::{Outcome, Said};
use super::model::Change;
use super::{Personality, Shared};

impl Shared {
    /// Baileys and whatsmeow tell WAHA that a picture may not be seen as that there is none.
    pub(super) fn picture(&self, id: &str, account: &str, query: &str) -> Said {
        if !["", "refresh=false", "refresh=true"].contains(&query) {
            self.violation(&format!("a query that does not exist: {query}"));
        }
        let mut inner = self.lock();
        let group = inner.world.group(id, account).ok();
        let url = group.and_then(|group| group.picture.clone());
        drop(inner);
        Said::Json(json!({ "url": url }))
    }

    pub(super) fn set_picture(&self, id: &str, account: &str, body: &Value) -> Outcome {
        self.documented(body, &[("file", Value::is_object)]);
        self.documented(
            &body["file"],
            &[
                ("mimetype", Value::is_string),
                ("filename", Value::is_string),
                ("data", Value::is_string),
            ],
        );
        let length = body["file"]["data"].as_str().map_or(0, str::len);
        let url = format!("https://pps.whatsapp.net/v/{id}/{length}.jpg");
        self.change_picture(id, account, Some(url))
    }

    pub(super) fn delete_picture(&self, id: &str, account: &str) -> Outcome {
        self.change_picture(id, account, None)
    }

    fn change_picture(&self, id: &str, account: &str, url: Option<String>) -> Outcome {
        let mut inner = self.lock();
        let changed = inner.world.group(id, account).and_then(|group| {
            // Who may change the subject may change the picture.
            group.edit(account, Change::Subject, |group| {
                group.picture = url;
                Ok(false)
            })
        });
        drop(inner);
        match changed {
            Ok(_) => Ok(Said::Json(json!({"success": true}))),
            Err(_) if self.personality == Personality::Webjs => {
                Ok(Said::Json(json!({"success": false})))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }
}

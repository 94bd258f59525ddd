//! How people are named: phones, private ids, hosted ids, and numbers with two forms.

use std::collections::BTreeMap;

/// Where an account is hosted, as companies' accounts may be (`WAHA-API.md`, section 5; a public report).
const HOSTED_DEVICE: &str = ":99@hosted";

/// The private id of a phone: `9` and the number, as in the captured data.
pub(super) fn lid(phone: &str) -> String {
    format!("9{phone}@lid")
}

/// `WhatsApp`'s own form of a phone.
pub(super) fn wire(phone: &str) -> String {
    format!("{phone}@s.whatsapp.net")
}

/// WAHA's public form of a phone.
pub(super) fn public(phone: &str) -> String {
    format!("{phone}@c.us")
}

/// The phone of an id in any of its forms, without a suffix too; None for what no WAHA takes.
pub(super) fn phone(id: &str) -> Option<String> {
    let (local, server) = id.split_once('@').unwrap_or((id, "c.us"));
    let local = local.split(':').next().unwrap_or_default();
    if local.is_empty() || !local.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match server {
        "c.us" | "s.whatsapp.net" | "hosted" => Some(local.to_owned()),
        "lid" | "hosted.lid" => Some(local.strip_prefix('9')?.to_owned()),
        _ => None,
    }
}

/// What is special about some people.
#[derive(Debug, Clone, Default)]
pub(super) struct People {
    /// By the form that is asked for: the form that `WhatsApp` answers with.
    own_forms: BTreeMap<String, String>,
    hosted: Vec<String>,
}

impl People {
    pub(super) fn has_own_form(&mut self, asked: &str, own: &str) {
        self.own_forms.insert(asked.to_owned(), own.to_owned());
    }

    pub(super) fn is_hosted(&mut self, phone: &str) {
        self.hosted.push(phone.to_owned());
    }

    /// The number as `WhatsApp` knows it.
    pub(super) fn own_form(&self, phone: String) -> String {
        self.own_forms.get(&phone).cloned().unwrap_or(phone)
    }

    fn hosted(&self, phone: &str) -> bool {
        self.hosted.iter().any(|it| it == phone)
    }

    /// The id in a group, as the engines have it.
    pub(super) fn id(&self, phone: &str, by_lid: bool) -> String {
        match (by_lid, self.hosted(phone)) {
            (true, true) => format!("9{phone}@hosted.lid"),
            (true, false) => lid(phone),
            (false, true) => format!("{phone}{HOSTED_DEVICE}"),
            (false, false) => wire(phone),
        }
    }

    /// The same, as WAHA's own events have it.
    pub(super) fn public_id(&self, phone: &str, by_lid: bool) -> String {
        if by_lid || self.hosted(phone) {
            self.id(phone, by_lid)
        } else {
            public(phone)
        }
    }
}

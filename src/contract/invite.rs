//! The invite link of a group as a person pastes it, and what comes of following one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{InvalidId, checked_text};
use super::{Description, GroupId, ParticipantId, Subject, Timestamp};

checked_text! {
    /// The code of an invite link: bare, or any form of the link, which is read as its code.
    JoinCode,
    "an invite code of 8 to 64 letters, digits, '_' or '-', or a link such as https://chat.whatsapp.com/CODE",
    r"^[ \t\r\n]*((([Hh][Tt][Tt][Pp][Ss]?://)?[Cc][Hh][Aa][Tt]\.[Ww][Hh][Aa][Tt][Ss][Aa][Pp][Pp]\.[Cc][Oo][Mm]/([Ii][Nn][Vv][Ii][Tt][Ee]/)?)?[A-Za-z0-9_-]{8,64}/?([?#][^ \t\r\n]*)?|[Ww][Hh][Aa][Tt][Ss][Aa][Pp][Pp]://[Cc][Hh][Aa][Tt]/?\?[Cc][Oo][Dd][Ee]=[A-Za-z0-9_-]{8,64}([&#][^ \t\r\n]*)?)[ \t\r\n]*$",
    "https://chat.whatsapp.com/HD9B7MXXHrvrVVXW7FxuT5",
    |text| {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let code = in_app_link(text).or_else(|| in_web_link(text))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let fits = (8..=64).contains(&code.len()) && code.bytes().all(plain);
        fits.then(|| code.into())
    }
}

/// The code in `whatsapp://chat?code=CODE`, the link that WhatsApp's own page opens the app with.
fn in_app_link(text: &str) -> Option<&str> {
    let rest = after(text, "whatsapp://chat")?;
    let rest = after(rest.strip_prefix('/').unwrap_or(rest), "?code=")?;
    let (code, more) = rest.split_at(rest.find(['&', '#']).unwrap_or(rest.len()));
    is_one_word(more).then_some(code)
}

/// The code in `https://chat.whatsapp.com/invite/CODE/?mode=…`, where all but the code may be absent.
fn in_web_link(text: &str) -> Option<&str> {
    let rest = after(text, "https://").or_else(|| after(text, "http://"));
    let rest = match after(rest.unwrap_or(text), "chat.whatsapp.com/") {
        Some(path) => after(path, "invite/").unwrap_or(path),
        None if rest.is_some() => return None,
        None => text,
    };
    let (code, more) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    is_one_word(more).then(|| code.strip_suffix('/').unwrap_or(code))
}

/// What follows a prefix, whose letters may be large or small.
fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn is_one_word(text: &str) -> bool {
    !text.contains([' ', '\t', '\r', '\n'])
}

/// What an invite link shows of its group before joining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinInfo {
    /// The group's id.
    pub id: GroupId,
    /// What the group is called.
    #[schemars(with = "String")]
    pub subject: Subject,
    /// What the group says about itself; empty where it says nothing.
    #[schemars(with = "String")]
    pub description: Description,
    /// Who created the group, where that is known.
    pub owner: Option<ParticipantId>,
    /// When the group was created, where that is known.
    pub created_at: Option<Timestamp>,
    /// How many people are in the group, where that is known.
    pub size: Option<u32>,
    /// An admin has to approve who joins, where that is known.
    pub new_members_approval_required: Option<bool>,
}

/// What joining by an invite link came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The group that the link leads to.
    pub group_id: GroupId,
    /// Whether the account is in it now.
    pub outcome: JoinOutcome,
}

/// What joining by an invite link can come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum JoinOutcome {
    /// The account is in the group now.
    Ok,
    /// The account was in the group already; nothing changed.
    AlreadyMember,
    /// The account has asked to join, and an admin has to approve.
    PendingApproval,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "HD9B7MXXHrvrVVXW7FxuT5";

    #[test]
    fn every_form_of_a_link_that_people_paste_is_read_as_its_code() {
        for form in [
            "CODE",
            "CODE/",
            "CODE?mode=ac_t",
            "https://chat.whatsapp.com/CODE",
            "http://chat.whatsapp.com/CODE",
            "chat.whatsapp.com/CODE",
            "https://chat.whatsapp.com/CODE/",
            "https://chat.whatsapp.com/CODE?mode=ems_copy_t",
            "https://chat.whatsapp.com/CODE/?mode=wwt&fbclid=1#top",
            "https://chat.whatsapp.com/invite/CODE",
            "chat.whatsapp.com/invite/CODE/?mode=r_t",
            "HTTPS://Chat.WhatsApp.com/CODE",
            " \thttps://chat.whatsapp.com/CODE\r\n",
            "whatsapp://chat?code=CODE",
            "whatsapp://chat/?code=CODE&mode=r_c",
        ] {
            let text = form.replace("CODE", CODE);
            let read: JoinCode = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(read.as_str(), CODE, "{text}");
        }
    }

    #[test]
    fn other_links_and_broken_codes_are_refused() {
        for form in [
            "",
            "short",
            "CO DE1234",
            "https://CODE",
            "https://wa.me/CODE",
            "https://chat.whatsapp.com/",
            "https://chat.whatsapp.com/invite/",
            "https://chat.whatsapp.com/CODE/more",
            "https://chat.whatsapp.com.evil.example/CODE",
            "https://evil.example/chat.whatsapp.com/CODE",
            "https://chat.whatsapp.com/CODE?mode=a b",
            "join https://chat.whatsapp.com/CODE",
            "whatsapp://send?code=CODE",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            let text = form.replace("CODE", CODE);
            assert!(text.parse::<JoinCode>().is_err(), "{text}");
        }
    }
}

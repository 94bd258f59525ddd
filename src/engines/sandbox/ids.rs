//! Ids and codes of the sandbox, derived from the command: they look random, and the same command
//! always yields the same ones.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::contract::{GroupId, InviteCode, PrivateInvite, Timestamp};
use crate::store::ledger::Key;

/// How many ids are tried for a new group before giving up; the second has never been needed.
pub(super) const CANDIDATES: u8 = 4;

/// How long a private invite is valid (observed: about three days).
const INVITE_HOLDS: jiff::SignedDuration = jiff::SignedDuration::from_hours(72);

/// The namespace of the sandbox's UUIDs.
const NAMESPACE: Uuid = Uuid::from_u128(0x2c5f_9a0e_7d14_5c6b_9e83_41d0_6fb7_a2c5);

/// Groups that a `CreateGroup` may create: the first that does not exist yet is used.
pub(super) fn group_candidates(key: &Key) -> Vec<GroupId> {
    // 120363 begins the ids of all groups since November 2021.
    let candidate = |n: u8| {
        let number = u64_of(&digest(key, "group", &[n])) % 1_000_000_000_000;
        format!("120363{number:012}@g.us").parse().ok()
    };
    (0..CANDIDATES).filter_map(candidate).collect()
}

/// A code for an invite link: 22 letters and digits, as WhatsApp's are.
pub(super) fn invite_code(key: &Key) -> String {
    code(&digest(key, "invite", &[]), 22)
}

/// A code as the contract shows it.
pub(super) fn invite(code: &str) -> InviteCode {
    InviteCode {
        invite_code: code.to_owned(),
        invite_url: link(code),
    }
}

/// The link of an invite code.
pub(super) fn link(code: &str) -> String {
    format!("https://chat.whatsapp.com/{code}")
}

/// Where the picture with this digest would be; the sandbox keeps no pictures, and `.invalid` is no domain.
pub(super) fn picture_url(digest: &str) -> String {
    let name = digest.rsplit(':').next().unwrap_or_default();
    format!("https://sandbox.invalid/pictures/{name}")
}

/// The private invite for somebody who cannot be added.
pub(super) fn private_invite(key: &Key, who: &str, now: Timestamp) -> PrivateInvite {
    let expires = now
        .0
        .checked_add(INVITE_HOLDS)
        .unwrap_or(jiff::Timestamp::MAX);
    PrivateInvite {
        code: code(&digest(key, "private invite", who.as_bytes()), 16),
        expires_at: Timestamp(expires),
    }
}

/// The id of the command's event with this `index`.
pub(super) fn event(key: &Key, index: usize) -> Uuid {
    derived(key, "event", index)
}

/// The sandbox's notification id for an event.
pub(super) fn notification(key: &Key, index: usize) -> String {
    derived(key, "notification", index).simple().to_string()
}

fn derived(key: &Key, what: &str, index: usize) -> Uuid {
    // Neither sessions nor command ids contain spaces.
    let name = format!("{what} {} {} {index}", key.session, key.command_id);
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

fn digest(key: &Key, what: &str, salt: &[u8]) -> [u8; 32] {
    let name = format!("{what} {} {} ", key.session, key.command_id);
    Sha256::new()
        .chain_update(name)
        .chain_update(salt)
        .finalize()
        .into()
}

fn u64_of(digest: &[u8; 32]) -> u64 {
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Letters and digits from a digest. Sixty-two does not divide 256; these are no secrets.
fn code(digest: &[u8; 32], length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |byte: &u8| {
        ALPHABET
            .get(usize::from(byte % 62))
            .copied()
            .map(char::from)
    };
    digest.iter().take(length).filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key {
            session: "default".parse().unwrap(),
            command_id: id.parse().unwrap(),
        }
    }

    #[test]
    fn ids_have_whatsapps_form_and_depend_on_the_command_alone() {
        let ids = group_candidates(&key("a"));
        assert_eq!(ids.len(), usize::from(CANDIDATES));
        assert!(
            ids.iter()
                .all(|id| id.as_str().len() == 18 + 5 && id.as_str().starts_with("120363"))
        );
        assert_eq!(ids, group_candidates(&key("a")));
        assert_ne!(ids, group_candidates(&key("b")));
        assert_eq!(invite_code(&key("a")).len(), 22);
        assert_ne!(invite_code(&key("a")), invite_code(&key("b")));
        assert_ne!(event(&key("a"), 0), event(&key("a"), 1));
    }
}

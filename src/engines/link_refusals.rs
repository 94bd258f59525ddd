//! Why WhatsApp does not let an account follow an invite link, by its code (whatsapp-rust and whatsmeow use
//! the same); one text on every engine.

use crate::contract::ErrorCode;

/// The refusal that a code means; none for a code that says nothing about the link.
pub(super) const fn link_refusal(code: u16) -> Option<(ErrorCode, &'static str)> {
    Some(match code {
        400 | 404 | 406 => (
            ErrorCode::GroupNotFound,
            "there is no such invite link (406); check that the code was copied completely",
        ),
        401 | 403 => (
            ErrorCode::NotAllowed,
            "WhatsApp does not let the session's account join by this link (403); an admin can add it",
        ),
        405 => (
            ErrorCode::NotAllowed,
            "the session's account was removed from this group and cannot join by its link (405); an admin can add it again",
        ),
        410 => (
            ErrorCode::EngineRejected,
            "the invite link was revoked (410); ask an admin of the group for the new one",
        ),
        412 | 419 => (
            ErrorCode::EngineRejected,
            "the group is full (419); somebody has to leave first",
        ),
        423 => (
            ErrorCode::EngineRejected,
            "WhatsApp has locked the group (423); nobody can join it",
        ),
        _ => return None,
    })
}

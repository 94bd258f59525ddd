//! What can be switched on: an engine's settings and oddities, and what goes wrong with requests.
//!
//! Sources: the captured data in `data/waha-2026.2.1`, and what `WAHA-API.md` reports beyond it.

use std::time::Duration;

/// What can be switched on, beside what an engine always does.
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Groups are addressed by private ids (`noweb-lid`, `noweb-store-lid`, `gows-lid`).
    pub lids: bool,
    /// NOWEB runs with its store (`noweb-store`, `noweb-store-lid`).
    pub store: bool,
    /// The store learns of new groups only when [`super::Waha::store_catches_up`] is called, and not
    /// a moment later by itself (`noweb-store`, "the second group, asked at once after the answer").
    pub store_waits: bool,
    /// Only the session `default` is supported, as in WAHA Core (all captured data).
    pub core: bool,
    /// As of 2026.5 and later: GOWS has a top-level `engine`, `pn: null` for people by lid, and refuses
    /// empty descriptions; NOWEB's `_data.participants` are objects (`WAHA-API.md`, sections 5 and 6).
    pub newer: bool,
    /// As of 2026.9: the settings that came since 2026.7 have paths (`FEATURES.md`, 1.1), and GOWS shows
    /// who shares the history (WAHA's commit 0da9ef68).
    pub recent: bool,
    /// WEBJS before about 2026.7: `membersCanAddNewMember` tells the lock (`WAHA-API.md`, section 6).
    pub webjs_lock_as_add_mode: bool,
    /// And the phones behind private ids are told by `participants/v2` and `lids` alone.
    pub secret_phones: bool,
    /// `me` has no lid, in sessions and webhooks (accounts that WAHA has not learnt it of).
    pub me_without_lid: bool,
    /// A creation is answered with 200 and not 201.
    pub post_is_200: bool,
    /// Invite codes are told as the whole link, by every engine.
    pub invite_is_link: bool,
    /// Texts are sent in JSON's quotes.
    pub quoted_texts: bool,
    /// The list of groups begins with one that is not loaded: `"Name": "", "Participants": null,
    /// "ParticipantCount": 952` (GOWS; `WAHA-API.md`, section 4).
    pub stubs: bool,
    /// `GET groups` is `[]`, and `GET groups/{id}` has an empty body (`WAHA-API.md`, section 4).
    pub no_groups: bool,
    /// The deprecated events are sent beside the new ones (WEBJS).
    pub older_events: bool,
    /// Every event is sent twice, with two ids.
    pub doubled_events: bool,
    /// Every event is sent twice, with the same id: a retry after an answer that was lost.
    pub repeated_posts: bool,
    /// No events are sent: they are lost.
    pub deaf: bool,
    /// `WhatsApp` Web refuses every change of people and says 200 (WAHA#1264, WEBJS).
    pub silent_refusals: bool,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status and body, and nothing is done.
    Answer(u16, String),
    /// It is done, and this is said.
    DoneButSays(u16, String),
    /// It is done after so long, and the connection is closed without an answer.
    DoneInSilence(Duration),
    /// It is done at once, and answered after so long.
    DoneAnsweredLate(Duration),
    /// The connection is closed, and nothing is done.
    Closed,
    /// `WhatsApp` refuses with this code (all captured data).
    WhatsApp(u16),
    /// The engine's code fails: 500 with a `TypeError`, for as long as nobody upgrades it
    /// (`WAHA-API.md`, section 3). `groupChat.getInviteCode is not a function`
    TypeError(String),
    /// WEBJS says that a creation failed, with the group made or not: 201 with a text
    /// (`WAHA-API.md`, section 3).
    UnknownErrorOnCreate {
        /// Whether the group is there nevertheless.
        made: bool,
    },
}

/// How WEBJS tells that it does not know whether it has created a group.
pub(super) const UNKNOWN_ERROR: &str =
    "CreateGroupError: An unknown error occupied while creating a group";

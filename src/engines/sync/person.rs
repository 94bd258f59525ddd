//! A person in a group.

use serde::{Deserialize, Serialize};

use super::numbers::{is_phone, is_same};
use crate::contract::{Participant, ParticipantId, Role};

/// A person in a group, with all ids that were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines) struct Person {
    /// The phone's id if it was given, otherwise the private one.
    pub(in crate::engines) id: ParticipantId,
    /// The private id, if the phone is known too.
    pub(in crate::engines) lid: Option<ParticipantId>,
    pub(in crate::engines) role: Role,
}

impl Person {
    /// A person with one id.
    pub(in crate::engines) fn bare(id: &ParticipantId) -> Self {
        Self {
            id: id.clone(),
            lid: None,
            role: Role::Participant,
        }
    }

    /// Whether this is one of the person's ids.
    pub(in crate::engines) fn is(&self, id: &ParticipantId) -> bool {
        is_same(&self.id, id) || self.lid.as_ref() == Some(id)
    }

    /// Whether the phone is unknown.
    pub(in crate::engines) fn is_private(&self) -> bool {
        !is_phone(&self.id)
    }

    pub(in crate::engines) fn into_participant(self) -> Participant {
        Participant::new(self.id, self.role, self.lid)
    }
}

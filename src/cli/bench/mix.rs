//! Which commands are sent, and their payloads.

use std::str::FromStr;

use serde_json::{Value, json};

use super::groups::Place;
use crate::contract::{CommandType, Repeat};

/// How many people the commands about people name.
const PEOPLE: u64 = 8;

/// Commands with their weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mix(Vec<(CommandType, u32)>);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let command = CommandType::from_str(name.trim())
                .ok()
                .filter(|it| is_possible(*it));
            let Some(command) = command else {
                let possible = possible().map(CommandType::as_str);
                let possible: Vec<_> = possible.collect();
                let name = name.trim();
                return Err(format!(
                    "{name:?} cannot be in a mix; possible are {}",
                    possible.join(", ")
                ));
            };
            if mix.iter().any(|(known, _)| *known == command) {
                return Err(format!("{} is there twice", command.as_str()));
            }
            let weight = weight
                .trim()
                .parse()
                .ok()
                .filter(|it| (1..=1_000_000).contains(it));
            let weight = weight.ok_or_else(|| {
                format!(
                    "the weight of {} must be from 1 to 1000000",
                    command.as_str()
                )
            })?;
            mix.push((command, weight));
        }
        Ok(Self(mix))
    }
}

impl Mix {
    /// One command.
    pub(super) fn only(command: CommandType) -> Self {
        Self(vec![(command, 1)])
    }

    /// The commands, in the order in which they were named.
    pub(super) fn commands(&self) -> impl Iterator<Item = CommandType> {
        self.0.iter().map(|(command, _)| *command)
    }

    /// The names of the commands with their weights.
    pub(super) fn weights(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let each = self.0.iter();
        each.map(|(command, weight)| (command.as_str(), *weight))
    }

    /// One of them by chance, as its weight says: its place and the command.
    pub(super) fn draw(&self) -> Option<(usize, CommandType)> {
        let all: u32 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = rand::random_range(0..all.max(1));
        let mut kinds = self.0.iter().enumerate();
        let drawn = kinds.find(|(_, (_, weight))| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        drawn.map(|(kind, (command, _))| (kind, *command))
    }

    /// Whether a command is about a group.
    pub(super) fn needs_groups(&self) -> bool {
        self.commands().any(needs_group)
    }

    /// The first command that names people, whom the load generator makes up.
    pub(super) fn names_people(&self) -> Option<CommandType> {
        self.commands().find(|it| {
            let payload = payload(*it, &Place::default(), 0);
            payload.is_some_and(|it| it.get("participants").is_some())
        })
    }
}

/// The commands that can be in a mix.
pub(super) fn possible() -> impl Iterator<Item = CommandType> {
    let all = CommandType::ALL.iter().copied();
    all.filter(|it| is_possible(*it))
}

fn is_possible(command: CommandType) -> bool {
    payload(command, &Place::default(), 0).is_some()
}

fn needs_group(command: CommandType) -> bool {
    let payload = payload(command, &Place::default(), 0);
    payload.is_some_and(|it| it.get("groupId").is_some())
}

/// Whether a command changes something, and so may cause an event.
pub(super) fn may_cause_event(command: CommandType) -> bool {
    command.repeat() != Repeat::ReadOnly
}

/// The payload of the command with a number; none for commands that need to be told more than a group.
///
/// Commands that create, leave or join groups are not among them, so that the groups stay the same.
pub(super) fn payload(command: CommandType, place: &Place, number: u64) -> Option<Value> {
    let group = &place.group;
    // Changes from one visit of a group to the next.
    let flag = (number / place.of.max(1)).is_multiple_of(2);
    let person = format!("1555000{:04}@c.us", 100 + number % PEOPLE);
    Some(match command {
        CommandType::CountGroups
        | CommandType::RefreshGroups
        | CommandType::CountLids
        | CommandType::ListWebhooks => json!({}),
        CommandType::ListGroups | CommandType::ListLids => json!({ "limit": 10 }),
        CommandType::GetGroup
        | CommandType::GetGroupPicture
        | CommandType::GetInfoAdminOnly
        | CommandType::GetMessagesAdminOnly
        | CommandType::GetMemberAddMode
        | CommandType::GetMembershipApproval
        | CommandType::GetMemberShareHistory
        | CommandType::GetParticipants
        | CommandType::GetInviteCode
        | CommandType::RevokeInviteCode
        | CommandType::ListJoinRequests => json!({ "groupId": group }),
        CommandType::SetGroupSubject => {
            json!({ "groupId": group, "subject": format!("Subject {number}") })
        }
        CommandType::SetGroupDescription => {
            json!({ "groupId": group, "description": format!("Description {number}") })
        }
        CommandType::SetInfoAdminOnly | CommandType::SetMessagesAdminOnly => {
            json!({ "groupId": group, "adminsOnly": flag })
        }
        CommandType::SetMemberAddMode => {
            json!({ "groupId": group, "membersCanAddNewMember": flag })
        }
        CommandType::SetMembershipApproval => {
            json!({ "groupId": group, "newMembersApprovalRequired": flag })
        }
        CommandType::SetMemberShareHistory => {
            json!({ "groupId": group, "membersCanShareHistory": flag })
        }
        CommandType::SetDisappearingMessages => {
            json!({ "groupId": group, "seconds": if flag { 86_400 } else { 0 } })
        }
        CommandType::EnsureGroup => {
            json!({ "groupId": group, "name": format!("Name {number}") })
        }
        CommandType::AddParticipants
        | CommandType::RemoveParticipants
        | CommandType::PromoteAdmin
        | CommandType::DemoteAdmin => json!({ "groupId": group, "participants": [person] }),
        _ => return None,
    })
}

//! Turns changes into the events of each session.
//!
//! A session gets the events of a group while its account is a member, and those of its own joining
//! and leaving. Each session has its own sequence of a group's events, without gaps.

use crate::contract::{
    ChangedGroup, EngineName, Event, EventName, EventPayload, GroupId, JoinRequestAction,
    MembershipChange, NotificationType, Participant, ParticipantId, ParticipantRole, RequestMethod,
    Role, SessionName, Timestamp,
};
use crate::engines::event_fields::{EventFields, no_change};
use crate::engines::sandbox::accounts::Accounts;
use crate::engines::sandbox::effect::{self, Actor, Change};
use crate::engines::sandbox::{ids, lids, view};
use crate::store::sandbox_groups::SandboxGroup;

/// Turns the changes of one command into events, and counts them in the group's sequences.
///
/// `before` is the sessions whose account was in the group when the command started
/// ([`Accounts::sessions_inside`]).
pub(super) fn events(
    id: &GroupId,
    group: &mut SandboxGroup,
    before: Vec<SessionName>,
    accounts: &Accounts,
    actor: &Actor<'_>,
    changes: &[Change],
) -> Vec<Event> {
    let mut writer = EventWriter {
        id,
        group,
        inside: before,
        accounts,
        actor,
        events: Vec::new(),
    };
    for change in changes {
        writer.write(change);
    }
    writer.events
}

struct EventWriter<'a> {
    id: &'a GroupId,
    /// The state after the command.
    group: &'a mut SandboxGroup,
    /// The sessions whose account is a member at the current change.
    inside: Vec<SessionName>,
    accounts: &'a Accounts,
    actor: &'a Actor<'a>,
    events: Vec<Event>,
}

impl EventWriter<'_> {
    fn write(&mut self, change: &Change) {
        match change {
            Change::Created { who } => self.joined(who, NotificationType::Create),
            Change::Added { who } => self.joined(who, NotificationType::Add),
            Change::JoinedByLink => {
                let who = [self.actor.account.clone()];
                self.joined(&who, NotificationType::Invite);
            }
            Change::JoinRequest {
                who,
                action,
                method,
            } => self.join_request(who, *action, *method),
            Change::Removed { who } => self.left(who, NotificationType::Remove),
            Change::Left => {
                let who = [self.actor.account.clone()];
                self.left(&who, NotificationType::Leave);
            }
            Change::Promoted { who } => {
                self.roles_changed(who, MembershipChange::Promote, Some(self.actor.account));
            }
            Change::Demoted { who } => {
                self.roles_changed(who, MembershipChange::Demote, Some(self.actor.account));
            }
            // Promoted by WhatsApp, so there is no author.
            Change::Succeeded { who } => {
                self.roles_changed(std::slice::from_ref(who), MembershipChange::Promote, None);
            }
            Change::Subject(subject) => {
                let subject = Some(subject.clone());
                self.update(&ChangedGroup {
                    subject,
                    ..no_change(self.id)
                });
            }
            Change::Description(description) => {
                let description = Some(description.clone());
                self.update(&ChangedGroup {
                    description,
                    ..no_change(self.id)
                });
            }
            Change::Setting(setting) => {
                let mut changed = no_change(self.id);
                setting.add_to(&mut changed);
                self.update(&changed);
            }
            Change::Picture(change) => {
                self.update(&ChangedGroup {
                    picture: Some(*change),
                    ..no_change(self.id)
                });
            }
            Change::InviteCode(code) => {
                let invite = Some(ids::link(code));
                self.update(&ChangedGroup {
                    invite,
                    ..no_change(self.id)
                });
            }
            Change::Forgotten => {}
        }
    }

    /// People joined: members get the change, new members get the group first.
    fn joined(&mut self, who: &[ParticipantId], kind: NotificationType) {
        let new = self.accounts.sessions_of(who);
        for session in self.inside.clone() {
            self.notify(&session, EventName::GroupJoin, kind, who);
            self.membership(
                &session,
                MembershipChange::Join,
                who,
                Some(self.actor.account),
            );
        }
        for session in &new {
            let whole = view::group(self.id, self.group);
            self.emit(session, EventName::OwnJoin, |fields| fields.own_join(whole));
            self.notify(session, EventName::GroupJoin, kind, who);
        }
        self.inside.extend(new);
    }

    /// People left: the remaining members get the change, those who left get their own departure.
    fn left(&mut self, who: &[ParticipantId], kind: NotificationType) {
        let gone = self.accounts.sessions_of(who);
        self.inside.retain(|session| !gone.contains(session));
        for session in self.inside.clone() {
            self.notify(&session, EventName::GroupLeft, kind, who);
            self.membership(
                &session,
                MembershipChange::Leave,
                who,
                Some(self.actor.account),
            );
        }
        for session in &gone {
            let group = no_change(self.id);
            self.emit(session, EventName::OwnLeave, |fields| fields.change(group));
            self.notify(session, EventName::GroupLeft, kind, who);
        }
    }

    fn roles_changed(
        &mut self,
        who: &[ParticipantId],
        kind: MembershipChange,
        by: Option<&ParticipantId>,
    ) {
        for session in self.inside.clone() {
            self.membership(&session, kind, who, by);
        }
    }

    /// Only admins get the invite link.
    fn update(&mut self, group: &ChangedGroup) {
        for session in self.inside.clone() {
            if group.invite.is_none() || self.is_admin(&session) {
                self.emit(&session, EventName::GroupUpdate, |fields| {
                    fields.change(group.clone())
                });
            }
        }
    }

    /// Only admins get it.
    fn join_request(
        &mut self,
        who: &ParticipantId,
        action: JoinRequestAction,
        method: RequestMethod,
    ) {
        for session in self.inside.clone() {
            if self.is_admin(&session) {
                let request = (who.clone(), view::phone(who), Some(method));
                let group = self.id.clone();
                self.emit(&session, EventName::JoinRequest, |fields| {
                    fields.join_request(group, action, request)
                });
            }
        }
    }

    fn notify(
        &mut self,
        session: &SessionName,
        event: EventName,
        kind: NotificationType,
        who: &[ParticipantId],
    ) {
        let group = self.id.clone();
        self.emit(session, event, |fields| {
            fields.notification(group, kind, who)
        });
    }

    fn membership(
        &mut self,
        session: &SessionName,
        kind: MembershipChange,
        who: &[ParticipantId],
        by: Option<&ParticipantId>,
    ) {
        let role = |id: &ParticipantId| match kind {
            MembershipChange::Leave => None,
            _ => self.group.members.get(id).map(|member| member.role),
        };
        let participants = who
            .iter()
            .map(|id| {
                // Both ids are known by the same rule as in lists.
                let Participant { lid, pn, .. } =
                    Participant::new(id.clone(), Role::Participant, lids::lid_of(id));
                ParticipantRole {
                    id: id.clone(),
                    role: role(id),
                    lid,
                    pn,
                }
            })
            .collect();
        let (group, author) = (self.id.clone(), by.cloned());
        self.emit(session, EventName::GroupParticipants, |fields| {
            EventFields { author, ..fields }.membership(group, kind, participants)
        });
    }

    fn emit(
        &mut self,
        session: &SessionName,
        event: EventName,
        payload: impl FnOnce(EventFields) -> EventPayload,
    ) {
        let sequence = self.group.sequences.entry(session.clone()).or_default();
        *sequence += 1;
        let index = self.events.len();
        let Timestamp(now) = self.actor.now;
        let fields = EventFields {
            notification: ids::notification(self.actor.key, index),
            seconds: now.as_second(),
            author: Some(self.actor.account.clone()),
            sequence: *sequence,
            command_id: Some(self.actor.command.clone()),
            reconciled: false,
        };
        self.events.push(Event {
            id: ids::event(self.actor.key, index),
            timestamp: now.as_millisecond(),
            event,
            session: session.clone(),
            engine: EngineName::Sandbox,
            payload: payload(fields),
        });
    }

    fn is_admin(&self, session: &SessionName) -> bool {
        let member = self
            .accounts
            .phone(session)
            .and_then(|who| self.group.members.get(who));
        member.is_some_and(|member| effect::is_admin(member.role))
    }
}

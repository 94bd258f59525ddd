//! The difference between a group as it is and as it shall be: one step after the other.
//!
//! A pure function of the wish, the group and the steps so far. Each step takes what earlier ones came to
//! into account, and nothing is tried twice, so the steps end though the group may not show their effects.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::contract::{
    AddParticipants, Command, CommandType, CreateGroup, DemoteAdmin, Description, EnsureGroup,
    Group, GroupId, GroupSettings, OutcomeKind, Participant, ParticipantId, ParticipantInput,
    PromoteAdmin, RemoveParticipants, Role, SetGroupDescription, SetGroupSubject, Subject,
    WantedParticipant,
};
use crate::engines::{Setting, comparable};

/// A step on the way to the wanted group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Step {
    Create(Vec<ParticipantId>),
    Subject,
    Description,
    Setting(Setting),
    Add(Vec<ParticipantId>),
    Promote(Vec<ParticipantId>),
    Demote(Vec<ParticipantId>),
    Remove(Vec<ParticipantId>),
}

/// The group as far as it is known: as it was read, with the effects of the steps since.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) subject: Subject,
    pub(super) description: Description,
    pub(super) settings: GroupSettings,
    pub(super) owner: Option<ParticipantId>,
    pub(super) members: Members,
}

/// The members, each by every id of theirs that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    /// By the form in which two ids of one phone are the same.
    by_id: BTreeMap<String, Participant>,
    /// From the other ids of a member to the one above.
    others: HashMap<String, String>,
}

impl Members {
    pub(super) fn insert(&mut self, member: Participant) {
        let id = comparable(&member.id).into_owned();
        for other in member.lid.iter().chain(&member.pn) {
            self.others
                .insert(comparable(other).into_owned(), id.clone());
        }
        self.by_id.insert(id, member);
    }

    pub(super) fn get_mut(&mut self, who: &ParticipantId) -> Option<&mut Participant> {
        let id = self.id_of(who);
        self.by_id.get_mut(&id)
    }

    pub(super) fn remove(&mut self, who: &ParticipantId) {
        let id = self.id_of(who);
        self.by_id.remove(&id);
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether the phone of each is known.
    pub(super) fn have_phones(&self) -> bool {
        let mut members = self.by_id.values();
        members.all(|member| member.id.is_phone() || member.pn.is_some())
    }

    fn role(&self, who: &ParticipantId) -> Option<Role> {
        self.by_id.get(&self.id_of(who)).map(|member| member.role)
    }

    /// The id by which somebody is, or would be, in the list.
    fn id_of(&self, who: &ParticipantId) -> String {
        let id = comparable(who);
        let other = self
            .others
            .get(&*id)
            .filter(|_| !self.by_id.contains_key(&*id));
        other.cloned().unwrap_or_else(|| id.into_owned())
    }
}

impl View {
    pub(super) fn of(group: &Group) -> Self {
        let mut members = Members::default();
        for member in group.participants.iter().flatten() {
            members.insert(member.clone());
        }
        Self {
            subject: group.subject.clone(),
            description: group.description.clone(),
            settings: group.settings,
            owner: group.owner.clone(),
            members,
        }
    }
}

/// What has been tried: a step without people, or a step with one person.
#[derive(Debug, Default)]
pub(super) struct Tried {
    steps: HashSet<Step>,
    people: HashSet<(CommandType, ParticipantId)>,
    /// Who was not added, and why.
    not_added: HashMap<ParticipantId, OutcomeKind>,
}

impl Tried {
    pub(super) fn insert(&mut self, step: &Step) {
        for person in step.people() {
            self.people.insert((step.command_type(), person.clone()));
        }
        if step.people().is_empty() || matches!(step, Step::Create(_)) {
            self.steps.insert(match step {
                Step::Create(_) => Step::Create(Vec::new()),
                other => other.clone(),
            });
        }
    }

    /// Somebody was not added. Without a reason, which a creation does not always tell, adding them is still
    /// to be tried.
    pub(super) fn not_added(&mut self, who: &ParticipantId, why: OutcomeKind) {
        if why != OutcomeKind::Unknown {
            self.people
                .insert((CommandType::AddParticipants, who.clone()));
        }
        self.not_added.insert(who.clone(), why);
    }

    pub(super) fn has_removed(&self) -> bool {
        self.people
            .iter()
            .any(|(command, _)| *command == CommandType::RemoveParticipants)
    }

    fn has(&self, command: CommandType, who: &ParticipantId) -> bool {
        self.people.contains(&(command, who.clone()))
    }
}

/// The wish, and the bounds within which it is carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) wanted: &'a EnsureGroup,
    /// The ids of the session's own account.
    pub(super) me: &'a [ParticipantId],
    /// The most people in one step.
    pub(super) most: usize,
}

impl Wish<'_> {
    /// The next step; none once nothing is left to do.
    pub(super) fn next(&self, view: Option<&View>, tried: &Tried) -> Option<Step> {
        let Some(view) = view else {
            let create = Step::Create(Vec::new());
            return (!tried.steps.contains(&create)).then(|| Step::Create(self.first_people()));
        };
        let untried = |step: &Step| !tried.steps.contains(step);
        self.text(view)
            .filter(untried)
            .or_else(|| self.description(view).filter(untried))
            .or_else(|| self.setting(view, tried))
            .or_else(|| self.people(view, tried))
    }

    /// Who is not wanted in the group and is to be removed.
    pub(super) fn superfluous(&self, view: &View, tried: &Tried) -> Vec<ParticipantId> {
        if !self.wanted.exact {
            return Vec::new();
        }
        if self.hides_somebody(view, tried) {
            return Vec::new();
        }
        let stays = self.people_wanted().map(|it| &it.id);
        let stays = stays.chain(self.me).chain(&view.owner);
        let stays: HashSet<_> = stays.map(|who| view.members.id_of(who)).collect();
        let unwanted = view.members.by_id.iter();
        let unwanted =
            unwanted.filter(|(id, member)| member.role != Role::Superadmin && !stays.contains(*id));
        unwanted.map(|(_, member)| member.id.clone()).collect()
    }

    /// Whether the list shows somebody who stays by an id that is not known to be theirs. Nobody is removed
    /// then: it might be them.
    pub(super) fn hides_somebody(&self, view: &View, tried: &Tried) -> bool {
        let shows_me = self.me.iter().any(|me| view.members.role(me).is_some());
        let mut wanted = self.people_wanted();
        !shows_me || wanted.any(|it| self.is_hidden(&it.id, view, tried))
    }

    /// Whether somebody is in the group, or may be, though the list does not show their id.
    fn is_hidden(&self, who: &ParticipantId, view: &View, tried: &Tried) -> bool {
        let was_tried = [CommandType::CreateGroup, CommandType::AddParticipants]
            .iter()
            .any(|command| tried.has(*command, who));
        let why = tried.not_added.get(who);
        let is_out =
            why.is_some_and(|it| !matches!(it, OutcomeKind::AlreadyMember | OutcomeKind::Unknown));
        !self.is_me(who) && view.members.role(who).is_none() && was_tried && !is_out
    }

    fn people_wanted(&self) -> impl Iterator<Item = &WantedParticipant> {
        self.wanted.participants.iter().flatten()
    }

    fn is_me(&self, who: &ParticipantId) -> bool {
        let who = comparable(who);
        self.me.iter().any(|id| comparable(id) == who)
    }

    /// Those who are added when the group is created.
    fn first_people(&self) -> Vec<ParticipantId> {
        let others = self.people_wanted().filter(|it| !self.is_me(&it.id));
        others.take(self.most).map(|it| it.id.clone()).collect()
    }

    fn text(&self, view: &View) -> Option<Step> {
        let differs = self.wanted.name.as_ref()? != &view.subject;
        differs.then_some(Step::Subject)
    }

    fn description(&self, view: &View) -> Option<Step> {
        let differs = self.wanted.description.as_ref()? != &view.description;
        differs.then_some(Step::Description)
    }

    fn setting(&self, view: &View, tried: &Tried) -> Option<Step> {
        let wanted = &self.wanted.settings;
        let wanted = [
            wanted.info_admin_only.map(Setting::InfoAdminOnly),
            wanted.messages_admin_only.map(Setting::MessagesAdminOnly),
            wanted
                .members_can_add_new_member
                .map(Setting::MembersCanAdd),
            wanted
                .new_members_approval_required
                .map(Setting::ApprovalRequired),
            wanted
                .members_can_share_history
                .map(Setting::MembersCanShareHistory),
            wanted
                .disappearing_seconds
                .map(|timer| Setting::DisappearingSeconds(timer.seconds())),
        ];
        let differs = |it: &Setting| it.value_in(&view.settings) != Some(it.value());
        let differing = wanted.into_iter().flatten().filter(differs);
        let mut untried = differing.map(Step::Setting);
        untried.find(|step| !tried.steps.contains(step))
    }

    /// Adds first, then roles, and removes last: rights that a later step needs are never missing.
    fn people(&self, view: &View, tried: &Tried) -> Option<Step> {
        let role = |it: &WantedParticipant| view.members.role(&it.id);
        let some = |command: CommandType, is_due: &dyn Fn(&WantedParticipant) -> bool| {
            let due = self
                .people_wanted()
                .filter(|it| !self.is_me(&it.id) && !tried.has(command, &it.id) && is_due(it));
            let due: Vec<_> = due.take(self.most).map(|it| it.id.clone()).collect();
            (!due.is_empty()).then_some(due)
        };
        let shall_be_admin =
            |it: &WantedParticipant| matches!(it.role, Some(Role::Admin | Role::Superadmin));
        some(CommandType::AddParticipants, &|it| role(it).is_none())
            .map(Step::Add)
            .or_else(|| {
                some(CommandType::PromoteAdmin, &|it| {
                    let is_hidden = self.is_hidden(&it.id, view, tried);
                    shall_be_admin(it) && (role(it) == Some(Role::Participant) || is_hidden)
                })
                .map(Step::Promote)
            })
            .or_else(|| {
                some(CommandType::DemoteAdmin, &|it| {
                    it.role == Some(Role::Participant) && role(it) == Some(Role::Admin)
                })
                .map(Step::Demote)
            })
            .or_else(|| {
                let mut unwanted = self.superfluous(view, tried);
                unwanted.retain(|who| !tried.has(CommandType::RemoveParticipants, who));
                unwanted.truncate(self.most);
                (!unwanted.is_empty()).then_some(Step::Remove(unwanted))
            })
    }
}

impl Step {
    /// The type of the command that carries it out.
    pub(super) const fn command_type(&self) -> CommandType {
        match self {
            Self::Create(_) => CommandType::CreateGroup,
            Self::Subject => CommandType::SetGroupSubject,
            Self::Description => CommandType::SetGroupDescription,
            Self::Setting(setting) => setting.command_type(),
            Self::Add(_) => CommandType::AddParticipants,
            Self::Promote(_) => CommandType::PromoteAdmin,
            Self::Demote(_) => CommandType::DemoteAdmin,
            Self::Remove(_) => CommandType::RemoveParticipants,
        }
    }

    /// The people whom it is about.
    pub(super) fn people(&self) -> &[ParticipantId] {
        match self {
            Self::Create(people)
            | Self::Add(people)
            | Self::Promote(people)
            | Self::Demote(people)
            | Self::Remove(people) => people,
            Self::Subject | Self::Description | Self::Setting(_) => &[],
        }
    }

    /// The command that carries it out; none if it needs a group and there is none, or a value that is not
    /// wanted.
    pub(super) fn command(&self, wanted: &EnsureGroup, group: Option<&GroupId>) -> Option<Command> {
        let named = |people: &[ParticipantId]| -> Vec<ParticipantInput> {
            let input = |id: &ParticipantId| ParticipantInput { id: id.clone() };
            people.iter().map(input).collect()
        };
        let group = || group.cloned();
        Some(match self {
            Self::Create(people) => Command::CreateGroup(CreateGroup {
                name: wanted.name.clone()?,
                participants: named(people),
            }),
            Self::Subject => Command::SetGroupSubject(SetGroupSubject {
                group_id: group()?,
                subject: wanted.name.clone()?,
            }),
            Self::Description => Command::SetGroupDescription(SetGroupDescription {
                group_id: group()?,
                description: wanted.description.clone()?,
            }),
            Self::Setting(setting) => setting.command(group()?)?,
            Self::Add(people) => Command::AddParticipants(AddParticipants {
                group_id: group()?,
                participants: named(people),
            }),
            Self::Promote(people) => Command::PromoteAdmin(PromoteAdmin {
                group_id: group()?,
                participants: named(people),
            }),
            Self::Demote(people) => Command::DemoteAdmin(DemoteAdmin {
                group_id: group()?,
                participants: named(people),
            }),
            Self::Remove(people) => Command::RemoveParticipants(RemoveParticipants {
                group_id: group()?,
                participants: named(people),
            }),
        })
    }
}

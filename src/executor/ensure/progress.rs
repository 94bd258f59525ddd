//! What an `EnsureGroup` has done so far, and what became of it.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::contract::{
    Change, CommandType, Description, EnsureGroup, EnsuredGroup, ErrorBody, ErrorCode, Event,
    Group, GroupId, GroupSettings, Outcome, OutcomeKind, Participant, ParticipantId, Role, Subject,
};
use crate::executor::Failure;
use crate::store::ledger::Record;

use super::difference::{Members, Step, Tried, View};
use super::{internal, refusal};

/// A step, as it is recorded before it is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Planned {
    pub(super) step: Step,
    /// The value before, of a change of a value.
    pub(super) from: Option<Value>,
}

/// The steps so far.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    wanted: &'a EnsureGroup,
    group: Option<GroupId>,
    parts: u32,
    /// The group as it is known; none while there is none.
    pub(super) view: Option<View>,
    pub(super) tried: Tried,
    changes: Vec<Change>,
    outcomes: Vec<Outcome>,
    /// Where in `outcomes` each person is.
    places: HashMap<ParticipantId, usize>,
    events: Vec<Event>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(wanted: &'a EnsureGroup) -> Self {
        Self {
            wanted,
            group: wanted.group_id.clone(),
            parts: 0,
            view: None,
            tried: Tried::default(),
            changes: Vec::new(),
            outcomes: Vec::new(),
            places: HashMap::new(),
            events: Vec::new(),
        }
    }

    /// The number of steps so far.
    pub(super) const fn parts(&self) -> u32 {
        self.parts
    }

    pub(super) const fn group(&self) -> Option<&GroupId> {
        self.group.as_ref()
    }

    /// Takes over what came of a step.
    pub(super) fn learn(&mut self, planned: Planned, record: Record) -> Result<(), Failure> {
        let Planned { step, from } = planned;
        let step = &step;
        self.parts += 1;
        self.events.extend(record.events);
        let mut change = self.change(step, from);
        self.tried.insert(step);
        match record.outcome {
            Ok(result) => self.done(step, &mut change, &result)?,
            // Without its group, or in it no more, the command cannot go on.
            Err(error) if ends_all(step, &error) => return Err(Failure::Engine(refusal(error))),
            Err(error) => {
                for who in step.people() {
                    self.outcome(step, refused(who, &error));
                }
                change.error = Some(error);
            }
        }
        self.changes.push(change);
        Ok(())
    }

    /// Assumes that a step is done as asked.
    pub(super) fn assume(&mut self, step: &Step) {
        let change = self.change(step, self.now(step));
        self.changes.push(change);
        self.tried.insert(step);
        if let Step::Create(people) = step {
            let mut members = Members::default();
            for person in people {
                members.insert(participant(person));
            }
            self.view = Some(View {
                subject: self
                    .wanted
                    .name
                    .clone()
                    .unwrap_or_else(|| Subject::from_engine("")),
                description: Description::default(),
                settings: GroupSettings::OF_NEW_GROUPS,
                owner: None,
                members,
            });
        }
        self.set_value(step);
        for who in step.people() {
            self.take_effect(step, who);
        }
    }

    /// The result, and the events of all parts.
    pub(super) fn finish(&mut self, group: Option<Group>) -> (EnsuredGroup, Vec<Event>) {
        let ensured = EnsuredGroup {
            group_id: self.group.clone(),
            created: self.wanted.group_id.is_none(),
            changes: std::mem::take(&mut self.changes),
            outcomes: std::mem::take(&mut self.outcomes),
            seconds: None,
            group,
        };
        (ensured, self.take_events())
    }

    /// Records that people would have been removed, were it known who they are.
    pub(super) fn removal_is_unclear(&mut self) {
        self.changes.push(Change {
            command_type: CommandType::RemoveParticipants,
            from: None,
            to: None,
            participants: Vec::new(),
            error: Some(ErrorBody::new(
                ErrorCode::NotSupported,
                "the engine lists members by private ids whose phones it does not tell, so that it is not \
                 known who else is in the group; nobody was removed",
            )),
        });
    }

    /// The events of the parts so far.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn done(&mut self, step: &Step, change: &mut Change, result: &RawValue) -> Result<(), Failure> {
        match step {
            Step::Create(_) => {
                let made: Group = parsed(result)?;
                self.group = Some(made.id.clone());
                self.view = Some(View::of(&made));
                for outcome in made.outcomes.into_iter().flatten() {
                    self.outcome(step, outcome);
                }
            }
            Step::Subject | Step::Description | Step::Setting(_) => {
                if parsed::<bool>(result)? {
                    self.set_value(step);
                } else {
                    change.error = Some(ErrorBody::new(
                        ErrorCode::NotAllowed,
                        "only an admin may change this; promote the session's account",
                    ));
                }
            }
            Step::Add(_) | Step::Promote(_) | Step::Demote(_) | Step::Remove(_) => {
                for outcome in parsed::<Vec<Outcome>>(result)? {
                    self.outcome(step, outcome);
                }
            }
        }
        Ok(())
    }

    /// The first refusal of a person stays; a success, or a refusal without a reason, gives way to what comes
    /// after it.
    fn outcome(&mut self, step: &Step, outcome: Outcome) {
        let is_done = outcome.outcome == OutcomeKind::Ok;
        if is_done {
            self.take_effect(step, &outcome.id);
        } else if matches!(step, Step::Create(_) | Step::Add(_)) {
            self.tried.not_added(&outcome.id, outcome.outcome);
        }
        let earlier = self.places.get(&outcome.id);
        match earlier.and_then(|place| self.outcomes.get_mut(*place)) {
            Some(earlier) if gives_way(earlier.outcome) => *earlier = outcome,
            Some(_) => {}
            None => {
                self.places.insert(outcome.id.clone(), self.outcomes.len());
                self.outcomes.push(outcome);
            }
        }
    }

    /// Changes the view as a step has changed the group for one person.
    fn take_effect(&mut self, step: &Step, who: &ParticipantId) {
        let Some(view) = &mut self.view else {
            return;
        };
        let member = view.members.get_mut(who);
        match (step, member) {
            // Who is not in the list of a new group is in it by another id.
            (Step::Add(_), None) => {
                view.members.insert(participant(who));
            }
            (Step::Promote(_), Some(member)) => member.role = Role::Admin,
            (Step::Demote(_), Some(member)) => member.role = Role::Participant,
            (Step::Remove(_), Some(_)) => view.members.remove(who),
            _ => {}
        }
    }

    /// Changes the view as a step has changed the group's texts and settings.
    fn set_value(&mut self, step: &Step) {
        let (Some(view), wanted) = (&mut self.view, self.wanted) else {
            return;
        };
        match step {
            Step::Subject => {
                if let Some(name) = &wanted.name {
                    view.subject = name.clone();
                }
            }
            Step::Description => {
                view.description = wanted.description.clone().unwrap_or_default();
            }
            // Each is tried once, so the view need not follow.
            _ => {}
        }
    }

    /// The value that a step changes, as it is now.
    pub(super) fn now(&self, step: &Step) -> Option<Value> {
        let view = self.view.as_ref()?;
        match step {
            Step::Subject => Some(view.subject.as_str().into()),
            Step::Description => Some(view.description.as_str().into()),
            Step::Setting(setting) => setting.value_in(&view.settings),
            _ => None,
        }
    }

    fn change(&self, step: &Step, from: Option<Value>) -> Change {
        let wanted = self.wanted;
        let to = match step {
            Step::Create(_) | Step::Subject => wanted.name.as_ref().map(|it| it.as_str().into()),
            Step::Description => wanted.description.as_ref().map(|it| it.as_str().into()),
            Step::Setting(setting) => Some(setting.value()),
            _ => None,
        };
        Change {
            command_type: step.command_type(),
            from,
            to,
            participants: step.people().to_vec(),
            error: None,
        }
    }
}

fn participant(id: &ParticipantId) -> Participant {
    Participant {
        id: id.clone(),
        role: Role::Participant,
        lid: None,
        pn: None,
    }
}

/// Reads the result of a command.
pub(super) fn parsed<T: DeserializeOwned>(result: &RawValue) -> Result<T, Failure> {
    serde_json::from_str(result.get()).map_err(|error| internal(&error))
}

const fn gives_way(earlier: OutcomeKind) -> bool {
    matches!(earlier, OutcomeKind::Ok | OutcomeKind::Unknown)
}

/// Whether nothing can be done after this refusal.
fn ends_all(step: &Step, error: &ErrorBody) -> bool {
    matches!(step, Step::Create(_))
        || matches!(
            error.code,
            ErrorCode::GroupNotFound | ErrorCode::NotAMember | ErrorCode::SessionNotFound
        )
}

/// The outcome for a person of a step that was refused as a whole.
fn refused(who: &ParticipantId, error: &ErrorBody) -> Outcome {
    let (outcome, code) = match error.code {
        ErrorCode::NotAllowed => (OutcomeKind::NotAllowed, 403),
        _ => (OutcomeKind::Unknown, 400),
    };
    Outcome {
        id: who.clone(),
        outcome,
        code,
        invite: None,
    }
}

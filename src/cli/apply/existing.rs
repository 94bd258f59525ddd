//! New groups: their command ids, and a guard against a second group from the same file.
//!
//! A document without `groupId` asks for a new group each time it is applied. Two things keep it from getting two:
//! the id of its command is always the same, so that the ledger knows a repetition as long as it remembers; and after
//! that a group with the same name, which the session is in by then, stops the run.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use uuid::Uuid;

use super::file::Wanted;
use super::problems::Problem;
use crate::amqp::{Caller, Names};
use crate::cli::calls::{self, Answer};
use crate::cli::exit::Failure;
use crate::contract::{CommandType, Group, SessionName, Subject};

/// How many groups are asked for at once.
const PAGE: usize = 500;

/// The most pages, so that the loop ends whatever the engine answers.
const PAGES: usize = 100;

/// UUIDv5's name space of the ids of commands that create groups.
const NEW_GROUPS: Uuid = Uuid::from_u128(0x5f1c_43a9_6d0e_4b6b_9a57_2c4b_e0a7_d913);

/// The id of the command that makes a group as wanted.
pub(super) fn command_id(wanted: &Wanted) -> String {
    // The difference is another one each time.
    if wanted.group.group_id.is_some() {
        return Uuid::now_v7().to_string();
    }
    let name = format!("{}\n{}", wanted.session, wanted.key);
    Uuid::new_v5(&NEW_GROUPS, name.as_bytes()).to_string()
}

/// What is known of groups that have the name of a new one.
#[derive(Debug, Default)]
pub(super) struct Namesakes {
    /// Groups that are older than what the ledger remembers: a repetition would create a second one.
    pub(super) problems: Vec<Problem>,
    /// Groups that the file may have created a while ago.
    pub(super) notes: Vec<Problem>,
    /// The new groups whose session does not say which groups it is in, by number. None of them is created.
    pub(super) refused: Vec<(usize, Answer)>,
}

/// Asks for the groups of each session that shall get a new one, and finds those with its name.
pub(super) async fn look(
    caller: &mut Caller<'_>,
    names: &Names,
    groups: &[Wanted],
    retention: Duration,
    timeout: Duration,
) -> Result<Namesakes, Failure> {
    let mut sessions: BTreeMap<&SessionName, Vec<(usize, &Wanted)>> = BTreeMap::new();
    let new = groups.iter().enumerate();
    for (number, wanted) in new.filter(|(_, it)| it.group.group_id.is_none()) {
        let new = sessions.entry(&wanted.session).or_default();
        new.push((number, wanted));
    }
    let mut found = Namesakes::default();
    for (session, new) in sessions {
        let known = match groups_of(caller, names, session, timeout).await? {
            Ok(known) => known,
            Err(answer) => {
                let refused = new.iter().map(|(number, _)| (*number, answer.clone()));
                found.refused.extend(refused);
                continue;
            }
        };
        for (_, wanted) in new {
            let subject = wanted.group.name.as_ref();
            let same = subject.and_then(|it| known.get(it));
            for group in same.into_iter().flatten() {
                found.add(wanted, group, retention);
            }
        }
    }
    Ok(found)
}

impl Namesakes {
    fn add(&mut self, wanted: &Wanted, group: &Group, retention: Duration) {
        let id = &group.id;
        let age = group
            .created_at
            .map(|it| jiff::Timestamp::now().duration_since(it.0));
        // WhatsApp's clock need not be ours, and the ledger's time begins a little later.
        let is_remembered = age
            .and_then(|age| Duration::try_from(age).ok())
            .is_some_and(|age| age < retention / 10 * 9);
        let problem = |reason| Problem::new(wanted.place.clone(), "name", reason);
        if is_remembered {
            self.notes.push(problem(format!(
                "is that of {id}, a recent group. If this file created it, that goes on and no second group is \
                 created; write `groupId: {id}` here"
            )));
        } else {
            self.problems.push(problem(format!(
                "is that of {id}, a group that this session is in. If it is the one, write `groupId: {id}` here; \
                 a second group of this name can only be created by `groupmq send CreateGroup`"
            )));
        }
    }
}

/// The groups of a session by subject, or the answer that there is instead.
async fn groups_of(
    caller: &mut Caller<'_>,
    names: &Names,
    session: &SessionName,
    timeout: Duration,
) -> Result<Result<HashMap<Subject, Vec<Group>>, Answer>, Failure> {
    let mut known: HashMap<Subject, Vec<Group>> = HashMap::new();
    for page in 0..PAGES {
        let payload = json!({
            "limit": PAGE,
            "offset": page * PAGE,
            "exclude": ["participants"],
        });
        let command = CommandType::ListGroups;
        let id = Uuid::now_v7().to_string();
        let command = calls::command(names, session, command, id, payload);
        let answer = Answer::read(caller.call(command, timeout).await?)?;
        let Some(result) = &answer.reply.result else {
            return Ok(Err(answer));
        };
        let groups: Vec<Group> =
            serde_json::from_str(result.get()).context("a list of groups cannot be parsed")?;
        let is_last = groups.len() < PAGE;
        for group in groups {
            known.entry(group.subject.clone()).or_default().push(group);
        }
        if is_last {
            break;
        }
    }
    Ok(Ok(known))
}

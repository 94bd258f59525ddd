//! What really happens to a group.

use super::*;

/// A group as it was at some time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) inside: bool,
    pub(super) people: BTreeMap<usize, Role>,
}

/// What happened to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    Came,
    Went,
    Promoted,
    Demoted,
}

/// The true history.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) states: Vec<(i64, State)>,
    pub(super) happenings: Vec<(i64, usize, Happening)>,
}

impl Truth {
    pub(super) fn begin(inside: bool) -> Self {
        let mut state = State {
            inside,
            people: BTreeMap::new(),
        };
        state.people.insert(1, Role::Superadmin);
        state.people.insert(2, Role::Participant);
        state.people.insert(3, Role::Participant);
        if inside {
            state.people.insert(0, Role::Participant);
        }
        Self {
            states: vec![(i64::MIN, state)],
            happenings: Vec::new(),
        }
    }

    pub(super) fn at(&self, at: i64) -> &State {
        let before = self.states.iter().rev().find(|(since, _)| *since <= at);
        &before.unwrap().1
    }

    pub(super) fn now(&self) -> &State {
        &self.states.last().unwrap().1
    }

    /// Has something happen, where it can.
    pub(super) fn change(&mut self, at: i64, what: u8, who: usize) -> Option<(usize, Happening)> {
        let mut state = self.now().clone();
        let (who, happening) = match (what, state.people.get(&who)) {
            (0..4, None) => (who, Happening::Came),
            (0..4, Some(_)) => (who, Happening::Went),
            (4..9, Some(Role::Participant)) => (who, Happening::Promoted),
            (4..9, Some(_)) => (who, Happening::Demoted),
            (9, _) if state.inside => (0, Happening::Went),
            (9, _) => (0, Happening::Came),
            _ => return None,
        };
        match happening {
            Happening::Came | Happening::Demoted => state.people.insert(who, Role::Participant),
            Happening::Went => state.people.remove(&who),
            Happening::Promoted => state.people.insert(who, Role::Admin),
        };
        state.inside = state.people.contains_key(&0);
        self.states.push((at, state));
        self.happenings.push((at, who, happening));
        Some((who, happening))
    }

    /// The first time of a change of a person within a period.
    pub(super) fn first(&self, who: usize, what: Happening, after: i64, by: i64) -> Option<i64> {
        let mut happenings = self.happenings.iter();
        let found =
            happenings.find(|(at, of, it)| *of == who && *it == what && *at > after && *at <= by);
        found.map(|(at, ..)| *at)
    }

    /// Who left a while ago; WhatsApp Web still shows them.
    pub(super) fn ghosts(&self, at: i64) -> Vec<(usize, Role)> {
        let state = self.at(at);
        let went = self.happenings.iter().filter(|(since, who, what)| {
            *what == Happening::Went && *who != 0 && *since <= at && at - since < GHOST
        });
        // Once the account was out, the group is loaded anew.
        let stayed = |since: i64| {
            let own = |it: &&(i64, usize, Happening)| it.1 == 0 && (since..=at).contains(&it.0);
            self.at(since).inside && !self.happenings.iter().any(|it| own(&it))
        };
        let went = went.filter(|(since, ..)| stayed(*since));
        let went = went.map(|(since, who, _)| (*who, self.at(since - 1).people[who]));
        went.filter(|(who, _)| !state.people.contains_key(who))
            .collect()
    }
}

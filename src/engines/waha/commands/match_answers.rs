//! Matches answers with the people who were named: WhatsApp uses any id of a person, and the reply
//! uses the id of the request.

use super::{Operation, outcome};
use crate::contract::{Outcome, OutcomeKind, ParticipantId, ParticipantInput};
use crate::engines::sync::{Completeness, GroupSnapshot, Person, is_phone, is_same};
use crate::engines::waha::wire::ParticipantAnswer;

/// The maximum number of people per answer whose other id is looked up one by one.
const LOOKUPS: usize = 20;

impl Operation<'_> {
    /// Matches answers with the people who were named: by the ids in the answer, by further ids that
    /// WAHA knows, and finally by position.
    pub(super) async fn match_answers(
        &self,
        named: &[ParticipantInput],
        mut answered: Vec<ParticipantAnswer>,
        meaning: fn(u16) -> OutcomeKind,
    ) -> Vec<Option<Outcome>> {
        // The answer to a creation lists the account as well.
        let mine = |it: &ParticipantAnswer| self.me.iter().any(|me| has_id(&it.ids, me));
        let is_named =
            |it: &ParticipantAnswer| named.iter().any(|person| has_id(&it.ids, &person.id));
        answered.retain(|it| is_named(it) || !mine(it));
        let mut ids: Vec<_> = named.iter().map(|it| vec![it.id.clone()]).collect();
        let mut positions = positions(&ids, &answered);
        // For one person and one answer, the position is sufficient.
        if positions.len() > 1 && has_unmatched(&positions, &answered) {
            self.learn_other_ids(&mut ids, &positions, &mut answered)
                .await;
            positions = self::positions(&ids, &answered);
        }
        match_by_position(&mut positions, &answered);
        let matched = named.iter().zip(&positions);
        for (person, position) in matched {
            if let Some(answer) = position.and_then(|position| answered.get(position)) {
                self.phone_directory.learn(&person.id, &answer.ids);
            }
        }
        let matched = named.iter().zip(positions);
        let matched = matched.map(|(person, position)| {
            let answer = answered.get(position?)?;
            Some(Outcome {
                invite: answer.invite.clone(),
                ..outcome(&person.id, meaning(answer.code), answer.code)
            })
        });
        matched.collect()
    }

    /// Looks up the other ids of unmatched people and answers.
    async fn learn_other_ids(
        &self,
        ids: &mut [Vec<ParticipantId>],
        positions: &[Option<usize>],
        answered: &mut [ParticipantAnswer],
    ) {
        let is_free =
            |(index, _): &(usize, &mut ParticipantAnswer)| !positions.contains(&Some(*index));
        let free = answered.iter_mut().enumerate().filter(is_free);
        for (_, answer) in free.take(LOOKUPS) {
            let Some(id) = answer.ids.first().cloned() else {
                continue;
            };
            answer.ids.extend(self.other_id(&id).await);
        }
        let unmatched = ids.iter_mut().zip(positions);
        let unmatched = unmatched.filter(|(_, position)| position.is_none());
        for (ids, _) in unmatched.take(LOOKUPS) {
            let Some(id) = ids.first().cloned() else {
                continue;
            };
            ids.extend(self.other_id(&id).await);
        }
    }

    /// The phone of a private id, or the private id of a phone, if WAHA knows it.
    async fn other_id(&self, id: &ParticipantId) -> Option<ParticipantId> {
        if is_phone(id) {
            self.phone_directory.lid(self.client, self.caller, id).await
        } else {
            self.phone_directory
                .phone(self.client, self.caller, id)
                .await
        }
    }

    /// Makes sure that the named people are found among a group's members (see [`find`]), by phone: if
    /// some members are listed by an unknown id only, WAHA is asked for the other one.
    pub(super) async fn identify(&self, people: &mut [Person], named: &[ParticipantInput]) {
        let is_open = |named: &&ParticipantInput| match find(people, &named.id) {
            Some(person) => person.is_private(),
            None => is_phone(&named.id) && people.iter().any(Person::is_private),
        };
        for ParticipantInput { id } in named.iter().filter(is_open).take(LOOKUPS) {
            self.other_id(id).await;
        }
        self.phone_directory.complete(people);
    }
}

/// Finds a person by one of their ids.
pub(super) fn find<'a>(people: &'a [Person], id: &ParticipantId) -> Option<&'a Person> {
    people.iter().find(|person| person.is(id))
}

/// Whether somebody who is not found in a list is certainly no member: all members are listed, by
/// phone.
pub(super) fn lists_everybody(snapshot: &GroupSnapshot) -> bool {
    let people = snapshot.people.as_deref().unwrap_or_default();
    snapshot.extent() == Completeness::Complete && !people.iter().any(Person::is_private)
}

fn has_id(ids: &[ParticipantId], id: &ParticipantId) -> bool {
    ids.iter().any(|it| is_same(it, id))
}

/// The position of each person's answer, by ids.
fn positions(named: &[Vec<ParticipantId>], answered: &[ParticipantAnswer]) -> Vec<Option<usize>> {
    let position = |ids: &Vec<ParticipantId>| {
        let exactly = |it: &ParticipantAnswer| ids.iter().any(|id| it.ids.contains(id));
        let same = |it: &ParticipantAnswer| ids.iter().any(|id| has_id(&it.ids, id));
        let found = answered.iter().position(exactly);
        found.or_else(|| answered.iter().position(same))
    };
    named.iter().map(position).collect()
}

/// Whether there are both unmatched answers and unmatched people.
fn has_unmatched(positions: &[Option<usize>], answered: &[ParticipantAnswer]) -> bool {
    (0..answered.len()).any(|index| !positions.contains(&Some(index)))
        && positions.iter().any(Option::is_none)
}

/// Matches the remaining answers by position, if that is unambiguous: WhatsApp answers in the order of
/// the request, and a single remaining answer is about the single remaining person.
fn match_by_position(positions: &mut [Option<usize>], answered: &[ParticipantAnswer]) {
    let is_free = |positions: &[Option<usize>], index: usize| !positions.contains(&Some(index));
    if answered.len() != positions.len() {
        return;
    }
    // If the matched answers are not in order, the order proves nothing.
    let in_order = positions.iter().enumerate();
    let in_order =
        in_order.filter(|(index, position)| position.is_some_and(|position| position != *index));
    let is_ordered = in_order.count() == 0;
    let left = positions
        .iter()
        .filter(|position| position.is_none())
        .count();
    for index in 0..positions.len() {
        if positions.get(index).is_some_and(Option::is_some) {
            continue;
        }
        let found = if is_ordered {
            Some(index)
        } else if left == 1 {
            (0..answered.len()).find(|position| is_free(positions, *position))
        } else {
            None
        };
        let found = found.filter(|position| is_free(positions, *position));
        if let Some(position) = positions.get_mut(index) {
            *position = found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ids: &[&str], code: u16) -> ParticipantAnswer {
        ParticipantAnswer {
            ids: ids.iter().map(|id| id.parse().unwrap()).collect(),
            code,
            invite: None,
        }
    }

    fn named(ids: &[&str]) -> Vec<Vec<ParticipantId>> {
        ids.iter().map(|id| vec![id.parse().unwrap()]).collect()
    }

    fn matched(asked: &[&str], answered: &[ParticipantAnswer]) -> Vec<Option<usize>> {
        let mut positions = positions(&named(asked), answered);
        match_by_position(&mut positions, answered);
        positions
    }

    #[test]
    fn an_answer_is_found_by_every_id_and_both_forms_of_a_number() {
        let answered = [
            answer(&["770000000011@lid", "551187654321@c.us"], 200),
            answer(&["491700000001@c.us"], 403),
        ];
        let asked = ["491700000001@c.us", "5511987654321@c.us"];
        assert_eq!(matched(&asked, &answered), [Some(1), Some(0)]);
        assert_eq!(matched(&["770000000011@lid"], &answered), [Some(0)]);
    }

    #[test]
    fn of_two_forms_that_were_both_named_each_gets_its_own_answer() {
        let answered = [
            answer(&["551187654321@c.us"], 409),
            answer(&["5511987654321@c.us"], 200),
        ];
        let asked = ["5511987654321@c.us", "551187654321@c.us"];
        assert_eq!(matched(&asked, &answered), [Some(1), Some(0)]);
    }

    #[test]
    fn an_answer_without_a_known_id_is_matched_by_position_if_the_order_was_kept() {
        let answered = [
            answer(&["491700000001@c.us"], 200),
            answer(&["770000000002@lid"], 403),
            answer(&["770000000003@lid"], 200),
        ];
        let asked = [
            "491700000001@c.us",
            "491700000002@c.us",
            "491700000003@c.us",
        ];
        assert_eq!(matched(&asked, &answered), [Some(0), Some(1), Some(2)]);
        // Another order: the two that remain are ambiguous.
        let asked = [
            "491700000002@c.us",
            "491700000001@c.us",
            "491700000003@c.us",
        ];
        assert_eq!(matched(&asked, &answered), [None, Some(0), None]);
        // A single remaining answer is unambiguous.
        let answered = [
            answer(&["491700000001@c.us"], 200),
            answer(&["770000000002@lid"], 403),
        ];
        let asked = ["491700000002@c.us", "491700000001@c.us"];
        assert_eq!(matched(&asked, &answered), [Some(1), Some(0)]);
        // Fewer answers than people: ambiguous.
        let asked = [
            "491700000002@c.us",
            "491700000003@c.us",
            "491700000001@c.us",
        ];
        assert_eq!(matched(&asked, &answered), [None, None, Some(0)]);
    }
}

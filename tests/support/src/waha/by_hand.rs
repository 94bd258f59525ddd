//! What tests do to groups and to views of them: somebody with a phone changes a group, or a view is not
//! whole, or not of today.

use super::model::{Change, Group, Role};
use super::{Waha, now_ms};

impl Waha {
    /// Somebody with a phone changes a group; returns whether there is such a group.
    pub fn by_hand(&self, id: &str, hand: impl FnOnce(&mut ByHand<'_>)) -> bool {
        let mut inner = self.shared.lock();
        let Some(group) = inner.world.groups.get_mut(id) else {
            return false;
        };
        let changes = ByHand::done(group, hand);
        let group = group.clone();
        drop(inner);
        for (actor, change) in changes {
            self.shared.tell(&group, &actor, &change);
        }
        true
    }

    /// Tells of changes that have not happened, or that views do not show; returns whether there is
    /// such a group.
    pub fn only_told(&self, id: &str, hand: impl FnOnce(&mut ByHand<'_>)) -> bool {
        let Some(mut group) = self.group(id) else {
            return false;
        };
        for (actor, change) in ByHand::done(&mut group, hand) {
            self.shared.tell(&group, &actor, &change);
        }
        true
    }

    /// Somebody else creates a group.
    pub fn created_by_hand(&self, owner: &str, subject: &str, people: &[&str]) -> String {
        let people: Vec<_> = people.iter().map(|it| (*it).to_owned()).collect();
        let mut inner = self.shared.lock();
        let now = now_ms() / 1_000;
        let (id, _) = inner.world.create(owner, subject, &people, now);
        let group = inner.world.groups.get(&id).cloned();
        drop(inner);
        if let Some(group) = group {
            self.shared.tell(&group, owner, &Change::Created);
        }
        id
    }

    /// From now on views show a group as it is now, whatever happens to it (`WAHA-API.md`, section 4: "goes
    /// on showing people who have left", "a view right after a change may be the one before it"). NOWEB's store learns of events nevertheless.
    pub fn freeze(&self, id: &str) {
        let mut inner = self.shared.lock();
        if let Some(group) = inner.world.groups.get(id).cloned() {
            inner.frozen.insert(id.to_owned(), group);
        }
    }

    /// Views show a group as it is again.
    pub fn thaw(&self, id: &str) {
        self.shared.lock().frozen.remove(id);
    }

    /// Views of a group lack these people; its `size`, and GOWS' `ParticipantCount`, tell the truth
    /// (`WAHA-API.md`, section 4).
    pub fn hide(&self, id: &str, people: &[&str]) {
        let people = people.iter().map(|it| (*it).to_owned());
        self.shared
            .lock()
            .hidden
            .insert(id.to_owned(), people.collect());
    }

    /// Lists lack this group (`WAHA-API.md`, section 4: "172 of 537 groups missing").
    pub fn omit(&self, id: &str) {
        self.shared.lock().omitted.insert(id.to_owned());
    }

    /// The group is a stub, that is: not loaded (GOWS; `WAHA-API.md`, section 4).
    pub fn stub(&self, id: &str) {
        self.shared.lock().stubs.insert(id.to_owned());
    }

    /// Ends what [`Waha::freeze`], [`Waha::hide`], [`Waha::omit`] and [`Waha::stub`] began.
    pub fn views_are_whole(&self) {
        let mut inner = self.shared.lock();
        inner.frozen.clear();
        inner.hidden.clear();
        inner.omitted.clear();
        inner.stubs.clear();
    }

    /// Somebody is hosted: `…:99@hosted`, `…@hosted.lid` (`WAHA-API.md`, section 5).
    pub fn host(&self, phone: &str) {
        self.shared.lock().people.is_hosted(phone);
    }

    /// A number has two forms, and `WhatsApp` answers with its own (`WAHA-API.md`, section 5: Brazil,
    /// Mexico, Argentina).
    pub fn own_form(&self, asked: &str, own: &str) {
        self.shared.lock().people.has_own_form(asked, own);
    }

    /// NOWEB's store learns of what was pending ([`super::Quirks::store_waits`]).
    pub fn store_catches_up(&self) {
        let mut inner = self.shared.lock();
        inner
            .stores
            .values_mut()
            .for_each(super::store::Store::catch_up);
    }
}

/// A group in the hands of somebody with a phone: its owner, unless told otherwise.
#[derive(Debug)]
pub struct ByHand<'a> {
    group: &'a mut Group,
    actor: String,
    changes: Vec<(String, Change)>,
}

impl<'a> ByHand<'a> {
    fn done(group: &'a mut Group, hand: impl FnOnce(&mut ByHand<'a>)) -> Vec<(String, Change)> {
        let mut by_hand = ByHand {
            actor: group.owner.clone(),
            group,
            changes: Vec::new(),
        };
        hand(&mut by_hand);
        by_hand.changes
    }

    /// Somebody else than the owner does what follows.
    pub fn by(&mut self, phone: &str) {
        phone.clone_into(&mut self.actor);
    }

    fn did(&mut self, changes: impl IntoIterator<Item = Change>) {
        let actor = self.actor.clone();
        let changes = changes.into_iter().map(|change| (actor.clone(), change));
        self.changes.extend(changes);
    }

    /// People are added, those too who had left.
    pub fn add(&mut self, people: &[&str]) {
        let people: Vec<_> = people.iter().map(|it| (*it).to_owned()).collect();
        for phone in &people {
            self.group.former.remove(phone);
        }
        let (_, changes) = self.group.add(&people);
        self.did(changes);
    }

    /// Somebody joins by the link.
    pub fn joins(&mut self, phone: &str) {
        let changes = self.group.join(phone);
        let changes = changes.into_iter().map(|it| (phone.to_owned(), it));
        self.changes.extend(changes);
    }

    /// Somebody follows the link of a group in which admins approve.
    pub fn asks(&mut self, phone: &str) {
        if let Some(change) = self.group.ask(phone, None) {
            self.changes.push((phone.to_owned(), change));
        }
    }

    /// Somebody who asked gives up.
    pub fn gives_up(&mut self, phone: &str) {
        if let Some(request) = self.group.forget(phone) {
            let change = Change::Request("revoked", request);
            self.changes.push((phone.to_owned(), change));
        }
    }

    /// Whoever asked is let in, or refused, by an admin.
    pub fn decides(&mut self, phone: &str, approves: bool) {
        let actor = self.actor.clone();
        let people = [phone.to_owned()];
        if let Ok((_, changes)) = self.group.decide(&actor, &people, approves) {
            self.did(changes);
        }
    }

    /// People are removed, by an admin.
    pub fn remove(&mut self, people: &[&str]) {
        let people: Vec<_> = people.iter().map(|it| (*it).to_owned()).collect();
        for phone in &people {
            self.group.members.retain(|(it, _)| it != phone);
            self.group.former.insert(phone.clone(), false);
        }
        self.did([Change::Removed(people)]);
    }

    /// Whoever was removed counts as somebody who left, and may use the link.
    pub fn forgives(&mut self, phone: &str) {
        if let Some(left) = self.group.former.get_mut(phone) {
            *left = true;
        }
    }

    /// Somebody leaves.
    pub fn leaves(&mut self, phone: &str) {
        let changes = self.group.leave(phone);
        let changes = changes.into_iter().map(|it| (phone.to_owned(), it));
        self.changes.extend(changes);
    }

    /// Somebody becomes an admin.
    pub fn promote(&mut self, phone: &str) {
        self.ranks(phone, Role::Admin);
    }

    /// Somebody is no admin any more.
    pub fn demote(&mut self, phone: &str) {
        self.ranks(phone, Role::Member);
    }

    fn ranks(&mut self, phone: &str, role: Role) {
        let owner = self.group.owner.clone();
        let people = [phone.to_owned()];
        if let Ok((_, changes)) = self.group.rank(&owner, &people, role) {
            self.did(changes);
        }
    }

    /// The group gets another subject.
    pub fn subject(&mut self, subject: &str) {
        subject.clone_into(&mut self.group.subject);
        self.did([Change::Subject]);
    }

    /// The group gets another description.
    pub fn description(&mut self, description: &str) {
        description.clone_into(&mut self.group.description);
        self.did([Change::Description]);
    }

    /// Who may edit subject and description: only admins, or everybody.
    pub fn locked(&mut self, locked: bool) {
        self.group.locked = locked;
        self.did([Change::Locked]);
    }

    /// Who may write: only admins, or everybody.
    pub fn announce(&mut self, announce: bool) {
        self.group.announce = announce;
        self.did([Change::Announce]);
    }

    /// Whether admins have to approve who joins.
    pub fn approval(&mut self, approval: bool) {
        self.group.approval = approval;
        self.did([Change::Approval]);
    }

    /// Whether members who are no admins add others.
    pub fn members_add(&mut self, on: bool) {
        self.group.members_add = on;
        self.did([Change::MembersAdd]);
    }

    /// Whether members who are no admins send earlier messages to new members.
    pub fn members_share(&mut self, on: bool) {
        self.group.members_share = on;
        self.did([Change::MembersShare]);
    }

    /// Messages disappear after so many seconds, or never.
    pub fn disappearing(&mut self, seconds: u32) {
        self.group.disappearing = seconds;
        self.did([Change::Disappearing]);
    }

    /// The invite link gets another code.
    pub fn invite(&mut self, code: &str) {
        code.clone_into(&mut self.group.invite);
        self.did([Change::Invite]);
    }

    /// The group turns to private ids, or back to phones; nothing tells of it (`WAHA-API.md`, section 5).
    pub fn addressed_by_lid(&mut self, by_lid: bool) {
        self.group.by_lid = Some(by_lid);
    }
}

//! Groups, and WhatsApp's rules for them, as this WAHA's WhatsApp has them.
//!
//! Written from what WhatsApp does, not from groupmq's sandbox, which has to come to the same.

use std::collections::{BTreeMap, BTreeSet};

/// The role of somebody in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// No admin.
    Member,
    /// An admin.
    Admin,
    /// The creator.
    Creator,
}

impl Role {
    /// As it stands in WAHA's bodies.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Member => "participant",
            Self::Admin => "admin",
            Self::Creator => "superadmin",
        }
    }

    pub(super) const fn is_admin(self) -> bool {
        !matches!(self, Self::Member)
    }
}

/// A group.
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
#[derive(Debug, Clone)]
pub struct Group {
    /// `…@g.us`
    pub id: String,
    /// Its name.
    pub subject: String,
    /// Its description.
    pub description: String,
    /// The creator's phone, digits alone.
    pub owner: String,
    /// When it was created, in seconds.
    pub created: i64,
    /// When its subject was set, in seconds.
    pub subject_set: i64,
    /// Only admins change subject and description.
    pub locked: bool,
    /// Only admins write.
    pub announce: bool,
    /// Admins have to approve who wants to join.
    pub approval: bool,
    /// Members who are no admins add others.
    pub members_add: bool,
    /// Members who are no admins send earlier messages to new members.
    pub members_share: bool,
    /// After how many seconds messages disappear.
    pub disappearing: u32,
    /// The URL of its picture.
    pub picture: Option<String>,
    /// Whether people are named by their private ids; None for what the server's quirks say.
    pub by_lid: Option<bool>,
    /// The code of its link.
    pub invite: String,
    /// Codes of its link that were revoked.
    pub revoked: Vec<String>,
    /// Who waits for an admin's approval, in order.
    pub requests: Vec<JoinRequest>,
    /// Phones, digits alone, in the order of joining.
    pub members: Vec<(String, Role)>,
    /// Who was in it and is not any more; true for who left by themselves.
    pub former: BTreeMap<String, bool>,
}

/// Somebody who waits for an admin's approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Phone, digits alone.
    pub phone: String,
    /// `invite_link`, `non_admin_add`
    pub method: &'static str,
    /// Who wanted to add them, where one did.
    pub added_by: Option<String>,
    /// In seconds.
    pub at: i64,
}

/// Why WhatsApp refuses a request as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such group, or never in it: 404.
    Unknown,
    /// Not in it: 403.
    Outside,
    /// No admin: 403, and 401 for the link.
    NoAdmin(u16),
    /// Whatever it is, it is refused with this code.
    Invalid(u16),
}

impl Refusal {
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::Unknown => 404,
            Self::Outside => 403,
            Self::NoAdmin(code) | Self::Invalid(code) => code,
        }
    }
}

/// Something that happened in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Joined(Vec<String>),
    JoinedByLink(String),
    Removed(Vec<String>),
    Left(String),
    Promoted(Vec<String>),
    Demoted(Vec<String>),
    Subject,
    Description,
    Locked,
    Announce,
    Approval,
    MembersAdd,
    MembersShare,
    Disappearing,
    Invite,
    /// Somebody asked to join, or was refused or gave up: `created`, `rejected`, `revoked`.
    Request(&'static str, JoinRequest),
}

/// What became of one person: WhatsApp's code.
pub(super) type Answer = (String, u16);

/// All groups.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) groups: BTreeMap<String, Group>,
    next: u64,
    codes: u64,
}

impl World {
    pub(super) fn code(&mut self) -> String {
        self.codes += 1;
        format!("Invite{:016}", self.codes)
    }

    pub(super) fn create(
        &mut self,
        account: &str,
        subject: &str,
        people: &[String],
        now: i64,
    ) -> (String, Vec<Answer>) {
        self.next += 1;
        let id = format!("120363{:012}@g.us", self.next);
        let invite = self.code();
        let mut group = Group {
            id: id.clone(),
            subject: subject.to_owned(),
            description: String::new(),
            owner: account.to_owned(),
            created: now,
            subject_set: now,
            locked: false,
            announce: false,
            approval: false,
            members_add: true,
            members_share: true,
            disappearing: 0,
            picture: None,
            by_lid: None,
            invite,
            revoked: Vec::new(),
            requests: Vec::new(),
            members: vec![(account.to_owned(), Role::Creator)],
            former: BTreeMap::new(),
        };
        let (answers, _) = group.admit(people);
        self.groups.insert(id.clone(), group);
        (id, answers)
    }

    /// The group, for who is in it.
    pub(super) fn group(&mut self, id: &str, account: &str) -> Result<&mut Group, Refusal> {
        let group = self.groups.get_mut(id).ok_or(Refusal::Unknown)?;
        if group.role(account).is_some() {
            Ok(group)
        } else if group.former.contains_key(account) {
            Err(Refusal::Outside)
        } else {
            Err(Refusal::Unknown)
        }
    }

    /// The group of an invite code.
    pub(super) fn invited(&mut self, code: &str) -> Result<&mut Group, Refusal> {
        let code = code.rsplit('/').next().unwrap_or_default();
        let is_revoked = |group: &Group| group.revoked.iter().any(|it| it == code);
        if self.groups.values().any(is_revoked) {
            return Err(Refusal::Invalid(410));
        }
        let found = self.groups.values_mut().find(|group| group.invite == code);
        found.ok_or(Refusal::Invalid(406))
    }
}

/// Numbers that WhatsApp refuses to add, by their last digits: 99900…0403 has its privacy settings.
fn special(phone: &str) -> Option<u16> {
    let rest = phone.strip_prefix("99900")?;
    let code: u16 = rest.get(rest.len().checked_sub(3)?..)?.parse().ok()?;
    [401, 403, 404, 408, 419, 421]
        .contains(&code)
        .then_some(code)
}

impl Group {
    pub(super) fn role(&self, phone: &str) -> Option<Role> {
        let member = self.members.iter().find(|(it, _)| it == phone);
        member.map(|(_, role)| *role)
    }

    pub(super) fn admin(&self, account: &str, code: u16) -> Result<(), Refusal> {
        let admin = self.role(account).is_some_and(Role::is_admin);
        admin.then_some(()).ok_or(Refusal::NoAdmin(code))
    }

    fn admit(&mut self, people: &[String]) -> (Vec<Answer>, Vec<String>) {
        let (mut answers, mut joined) = (Vec::new(), Vec::new());
        for phone in people {
            let code = if self.role(phone).is_some() {
                409
            } else if let Some(code) = special(phone) {
                code
            } else if self.former.get(phone) == Some(&true) {
                408
            } else {
                self.enter(phone);
                joined.push(phone.clone());
                200
            };
            answers.push((phone.clone(), code));
        }
        (answers, joined)
    }

    /// Members may add too: WhatsApp's default for new groups.
    pub(super) fn add(&mut self, people: &[String]) -> (Vec<Answer>, Vec<Change>) {
        let (answers, joined) = self.admit(people);
        (answers, some(Change::Joined(joined.clone()), &joined))
    }

    pub(super) fn remove(
        &mut self,
        account: &str,
        people: &[String],
    ) -> Result<(Vec<Answer>, Vec<Change>), Refusal> {
        self.admin(account, 403)?;
        let (mut answers, mut gone) = (Vec::new(), Vec::new());
        for phone in people {
            let code = match self.role(phone) {
                None => 404,
                Some(Role::Creator) => 403,
                Some(_) => {
                    self.members.retain(|(it, _)| it != phone);
                    self.former.insert(phone.clone(), false);
                    gone.push(phone.clone());
                    200
                }
            };
            answers.push((phone.clone(), code));
        }
        Ok((answers, some(Change::Removed(gone.clone()), &gone)))
    }

    pub(super) fn rank(
        &mut self,
        account: &str,
        people: &[String],
        to: Role,
    ) -> Result<(Vec<Answer>, Vec<Change>), Refusal> {
        self.admin(account, 403)?;
        let (mut answers, mut changed) = (Vec::new(), Vec::new());
        let admins = self
            .members
            .iter()
            .filter(|(_, role)| role.is_admin())
            .count();
        for phone in people {
            let member = self.members.iter_mut().find(|(it, _)| it == phone);
            let code = match member {
                None => 404,
                Some((_, Role::Creator)) if to == Role::Member => 405,
                Some((_, Role::Admin)) if to == Role::Member && admins == 1 => 403,
                Some((_, role)) if role.is_admin() != to.is_admin() => {
                    *role = to;
                    changed.push(phone.clone());
                    200
                }
                Some(_) => 200,
            };
            answers.push((phone.clone(), code));
        }
        let change = if to == Role::Admin {
            Change::Promoted(changed.clone())
        } else {
            Change::Demoted(changed.clone())
        };
        Ok((answers, some(change, &changed)))
    }

    pub(super) fn enter(&mut self, phone: &str) {
        self.former.remove(phone);
        self.requests.retain(|it| it.phone != phone);
        self.members.push((phone.to_owned(), Role::Member));
    }

    /// Somebody joins by the link.
    pub(super) fn join(&mut self, account: &str) -> Vec<Change> {
        if self.role(account).is_some() {
            return Vec::new();
        }
        self.enter(account);
        vec![Change::JoinedByLink(account.to_owned())]
    }

    pub(super) fn leave(&mut self, account: &str) -> Vec<Change> {
        self.members.retain(|(it, _)| it != account);
        self.former.insert(account.to_owned(), true);
        let mut changes = vec![Change::Left(account.to_owned())];
        // WhatsApp makes somebody an admin where none is left.
        if !self.members.iter().any(|(_, role)| role.is_admin())
            && let Some((phone, role)) = self.members.first_mut()
        {
            *role = Role::Admin;
            changes.push(Change::Promoted(vec![phone.clone()]));
        }
        changes
    }

    pub(super) fn edit(
        &mut self,
        account: &str,
        change: Change,
        edit: impl FnOnce(&mut Self) -> Result<bool, Refusal>,
    ) -> Result<Vec<Change>, Refusal> {
        let for_all = matches!(change, Change::Subject | Change::Description);
        if self.locked || !for_all {
            self.admin(account, 403)?;
        }
        Ok(if edit(self)? {
            vec![change]
        } else {
            Vec::new()
        })
    }

    /// Members who are no admins add others only where the group lets them.
    pub(super) fn lets_add(&self, account: &str) -> Result<(), Refusal> {
        if self.members_add {
            return Ok(());
        }
        self.admin(account, 403)
    }

    pub(super) fn link(&self, account: &str) -> Result<String, Refusal> {
        self.admin(account, 401)?;
        Ok(self.invite.clone())
    }

    pub(super) fn revoke(&mut self, account: &str, code: String) -> Result<Vec<Change>, Refusal> {
        self.admin(account, 403)?;
        let old = std::mem::replace(&mut self.invite, code);
        self.revoked.push(old);
        Ok(vec![Change::Invite])
    }

    /// The phones of everybody in it.
    pub(super) fn phones(&self) -> BTreeSet<String> {
        self.members
            .iter()
            .map(|(phone, _)| phone.clone())
            .collect()
    }
}

fn some(change: Change, people: &[String]) -> Vec<Change> {
    if people.is_empty() {
        Vec::new()
    } else {
        vec![change]
    }
}

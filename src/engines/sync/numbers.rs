//! Phone numbers that WhatsApp writes in two ways.
//!
//! Some countries changed their mobile numbers after accounts existed, and WhatsApp keeps the form
//! with which an account was registered: it answers with that form, not with the requested one.
//! Source: WhatsApp's notes for Brazil (the ninth digit), Mexico (`1` after 52) and Argentina (`9`
//! after 54); observed in WAHA's `contacts/check-exists`.

use std::borrow::Cow;

use crate::contract::ParticipantId;

/// Whether an id is a phone number.
pub(in crate::engines) fn is_phone(id: &ParticipantId) -> bool {
    id.is_phone()
}

/// The form by which two ids of one phone are compared; private ids are unchanged.
///
/// It is for comparisons only and need not be an assigned number.
#[must_use]
pub fn comparable(id: &ParticipantId) -> Cow<'_, str> {
    let text = id.as_str();
    let Some(number) = text.strip_suffix("@c.us") else {
        return Cow::Borrowed(text);
    };
    match shorter(number) {
        Some(short) => Cow::Owned(format!("{short}@c.us")),
        None => Cow::Borrowed(text),
    }
}

/// Whether two ids certainly belong to one person: the same id, or two forms of one phone number.
pub(in crate::engines) fn is_same(one: &ParticipantId, other: &ParticipantId) -> bool {
    one == other || comparable(one) == comparable(other)
}

/// The number without the optional digit; none if it has no second form.
fn shorter(number: &str) -> Option<String> {
    // 55, two digits for the area, 9, and eight digits of a mobile, which begin with 6 to 9.
    if let Some((area, rest)) = number
        .strip_prefix("55")
        .and_then(|it| it.split_at_checked(2))
        && let Some(rest) = rest.strip_prefix('9').filter(|rest| rest.len() == 8)
        && rest.starts_with(['6', '7', '8', '9'])
    {
        return Some(format!("55{area}{rest}"));
    }
    // 52, 1, and ten digits.
    if let Some(rest) = number.strip_prefix("521").filter(|rest| rest.len() == 10) {
        return Some(format!("52{rest}"));
    }
    // 54, 9, and ten digits.
    if let Some(rest) = number.strip_prefix("549").filter(|rest| rest.len() == 10) {
        return Some(format!("54{rest}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        is_same(&one.parse().unwrap(), &other.parse().unwrap())
    }

    #[test]
    fn numbers_with_two_forms_are_one_persons() {
        assert!(same("5511987654321@c.us", "551187654321@c.us"), "Brazil");
        assert!(same("5215512345678@c.us", "525512345678@c.us"), "Mexico");
        assert!(same("5491123456789@c.us", "541123456789@c.us"), "Argentina");
    }

    #[test]
    fn other_numbers_are_two_persons() {
        // A Brazilian land line, whose number never gets a ninth digit.
        assert!(!same("5511932345678@c.us", "551132345678@c.us"));
        assert!(!same("5511987654321@c.us", "551187654322@c.us"));
        assert!(!same("15550000001@c.us", "15550000002@c.us"));
        // A private id looks like a number and is none.
        assert!(!same("5511987654321@lid", "551187654321@lid"));
        assert!(!same("5511987654321@lid", "5511987654321@c.us"));
    }
}

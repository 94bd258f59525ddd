//! Numbers that always behave in the same way, so that producers can try every outcome.
//!
//! They begin with 99900, which no country has (+999 is not assigned), and end in the code that
//! WhatsApp would answer with when somebody adds them; any digits may stand between.
//!
//! | number | outcome of adding them | code |
//! |---|---|---|
//! | `99900…0401` | `notAllowed`: they blocked the account | 401 |
//! | `99900…0403` | `privacyBlocked`, with a private invite that holds for three days | 403 |
//! | `99900…0404` | `notOnWhatsapp` | 404 |
//! | `99900…0408` | `recentlyLeft` | 408 |
//! | `99900…0419` | `groupFull` | 419 |
//! | `99900…0421` | `pendingApproval` | 421 |
//!
//! `99900123450403@c.us` for example cannot be added by anybody, in `CreateGroup` as in
//! `AddParticipants`. Everybody else can be, under WhatsApp's ordinary rules.

use crate::contract::{OutcomeKind, ParticipantId};

/// Every ending, with its outcome.
const SPECIAL: &[(&str, OutcomeKind, u16)] = &[
    ("0401", OutcomeKind::NotAllowed, 401),
    ("0403", OutcomeKind::PrivacyBlocked, 403),
    ("0404", OutcomeKind::NotOnWhatsapp, 404),
    ("0408", OutcomeKind::RecentlyLeft, 408),
    ("0419", OutcomeKind::GroupFull, 419),
    ("0421", OutcomeKind::PendingApproval, 421),
];

/// The fixed outcome of adding this person, if their number has one.
pub(super) fn refuses(who: &ParticipantId) -> Option<(OutcomeKind, u16)> {
    let digits = who.as_str().strip_suffix("@c.us")?.strip_prefix("99900")?;
    let found = SPECIAL.iter().find(|(ending, ..)| digits.ends_with(ending));
    found.map(|&(_, kind, code)| (kind, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reserved_numbers_are_special() {
        let of = |text: &str| refuses(&text.parse().unwrap());
        assert_eq!(
            of("999000404@c.us"),
            Some((OutcomeKind::NotOnWhatsapp, 404))
        );
        assert_eq!(
            of("99900123450403@c.us"),
            Some((OutcomeKind::PrivacyBlocked, 403))
        );
        assert_eq!(
            of("99900123450403@s.whatsapp.net"),
            Some((OutcomeKind::PrivacyBlocked, 403))
        );
        assert_eq!(of("99900123450403@lid"), None);
        assert_eq!(of("491700000403@c.us"), None);
        assert_eq!(of("9990012345@c.us"), None);
    }

    #[test]
    fn each_code_is_the_numbers_ending() {
        for (ending, _, code) in SPECIAL {
            assert_eq!(ending.parse::<u16>().unwrap(), *code);
        }
    }
}

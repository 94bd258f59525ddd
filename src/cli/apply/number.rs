//! Phone numbers as people and spreadsheets write them.

use crate::contract::ParticipantId;

/// Why a text is no phone number; a sentence's end, without the number.
pub(super) type Reason = &'static str;

/// Reads a person: an id, or a phone number with its country code and whatever people put between digits.
///
/// Nothing is guessed: a number that begins with a single 0 lacks its country code, and is refused.
pub(super) fn read(written: &str) -> Result<ParticipantId, Reason> {
    // Spreadsheets mark a text by an apostrophe; address books add invisible marks of the writing direction.
    let text: String = written
        .chars()
        .filter(|it| !matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect();
    let text = text.trim();
    let text = text.strip_prefix('\'').unwrap_or(text).trim_start();
    if text.is_empty() {
        return Err("is empty");
    }
    if text.contains('@') {
        return ParticipantId::named(text)
            .map_err(|_| "must be an id such as 491700000001@c.us, or a phone number");
    }
    if is_calculated(text) {
        return Err(
            "was taken for a number by a spreadsheet or a program (`4.9E+11`, `491700000001.0`): write it as text",
        );
    }
    let text = text.trim_start_matches(['(', ' ']);
    let (has_prefix, rest) = match text.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => match text.strip_prefix("00") {
            Some(rest) => (true, rest),
            None => (false, text),
        },
    };
    // Written for callers from within the country: `+49 (0)170`.
    let rest = if has_prefix {
        rest.replacen("(0)", "", 1)
    } else {
        rest.to_owned()
    };
    let mut digits = String::with_capacity(rest.len());
    for character in rest.chars() {
        match character {
            '0'..='9' => digits.push(character),
            '(' | ')' | '.' | '-' | '/' | '\u{2010}'..='\u{2015}' | '\u{2212}' => {}
            space if space.is_whitespace() => {}
            '+' => return Err("has a + in the middle: write one number"),
            _ => return Err("must be a phone number: digits, spaces and + - . / ( ) only"),
        }
    }
    if digits.starts_with('0') {
        return Err("begins with 0, so its country code is missing: write it like +49 170 0000001");
    }
    if !(7..=15).contains(&digits.len()) {
        return Err("must have 7 to 15 digits, with its country code");
    }
    ParticipantId::named(&digits).map_err(|_| "must be a phone number")
}

/// Whether it is the decimal form of a number: `4.91700000001E+11`, `491700000001.0`.
fn is_calculated(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let Some((whole, rest)) = text.split_once(['.', ',', 'e', 'E']) else {
        return false;
    };
    let is_exponent = text.contains(['e', 'E']) && text.parse::<f64>().is_ok();
    let is_zeros = !rest.is_empty() && rest.bytes().all(|it| it == b'0');
    is_exponent
        || text.contains(['e', 'E']) && text.replacen(',', ".", 1).parse::<f64>().is_ok()
        || is_digits(whole) && is_zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for written in [
            "+491700000001",
            "+49 170 000-0001",
            "+49 (0)170 000 0001",
            "+49 (0) 170/0000001",
            "0049 170 0000001",
            "00 49 170.000.0001",
            "(+49) 170 0000001",
            "491700000001",
            "49 170 0000001",
            "'+491700000001",
            "  +49\u{a0}170\u{202f}0000001\t",
            "\u{202a}+49 170 000\u{2011}0001\u{202c}",
            "491700000001@c.us",
            "491700000001@s.whatsapp.net",
            "491700000001:3@s.whatsapp.net",
        ] {
            let read = read(written).map(|it| it.as_str().to_owned());
            assert_eq!(read.as_deref(), Ok("491700000001@c.us"), "{written:?}");
        }
        assert_eq!(
            read("7715550000002@lid").unwrap().as_str(),
            "7715550000002@lid"
        );
    }

    #[test]
    fn what_is_no_number_with_a_country_code_is_refused_with_its_reason() {
        for (written, reason) in [
            ("", "is empty"),
            (" ' ", "is empty"),
            ("0170 0000001", "country code"),
            ("(0170) 0000001", "country code"),
            ("+0170 0000001", "country code"),
            ("+49", "7 to 15"),
            ("1234567890123456", "7 to 15"),
            ("+49 170 0000001 / +49 171 0000001", "one number"),
            ("+49 170 0000001 ext. 5", "digits"),
            ("+49 170 O000001", "digits"),
            ("n/a", "digits"),
            ("4.91700000001E+11", "as text"),
            ("4,917E+11", "as text"),
            ("4.9e11", "as text"),
            ("491700000001.0", "as text"),
            ("491700000001,00", "as text"),
            ("٤٩١٧٠٠٠٠٠٠٠٠١", "digits"),
            ("me@example.org", "an id such as"),
        ] {
            let refused = read(written).unwrap_err();
            assert!(refused.contains(reason), "{written:?}: {refused}");
        }
    }
}

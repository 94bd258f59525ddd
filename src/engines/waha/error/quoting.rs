//! Foreign text in our own messages, which reach logs: truncated, without phone numbers, ids and keys.

/// The maximum number of characters of a quoted text.
const MOST: usize = 200;

/// The number of digits from which a number may be a phone number; WhatsApp's and HTTP's codes have
/// three.
const DIGITS: usize = 6;

/// The maximum length of a word that contains digits; keys and invite codes are longer.
const LONG: usize = 16;

/// Replaces what is left out.
const GAP: &str = "…";

/// A foreign text on one line, without private data.
pub(in crate::engines::waha) fn quoted(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_alphanumeric() || "@._-+=~%".contains(c);
        let length = match number(rest) {
            Some(length) => {
                plain.push_str(GAP);
                length
            }
            None if is_part(first) => {
                let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let word = rest.get(..length).unwrap_or_default();
                plain.push_str(if is_private(word) { GAP } else { word });
                length
            }
            None => {
                plain.push(if first.is_control() { ' ' } else { first });
                first.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    plain.chars().take(MOST).collect()
}

/// The length of a possible phone number at the start of the text, in any notation.
fn number(text: &str) -> Option<usize> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+(".contains(c)) {
        return None;
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.() ".contains(c));
    let number = text.get(..end.unwrap_or(text.len()))?;
    // A server's name may follow, or a word that contains the digit: that is treated as a word.
    let is_word = end.is_some_and(|end| {
        number.ends_with(|c: char| c.is_ascii_digit())
            && text.get(end..).is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_alphanumeric() || "@_".contains(c))
            })
    });
    let digits = number.chars().filter(char::is_ascii_digit).count();
    (!is_word && digits >= DIGITS).then(|| number.trim_end().len())
}

/// An id, a phone number or a key.
fn is_private(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    word.contains('@') || digits >= DIGITS || (digits > 0 && word.chars().count() > LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_stays_and_who_it_was_about_goes() {
        let rows = [
            (
                "TypeError: Cannot read properties of undefined (reading 'map')",
                "TypeError: Cannot read properties of undefined (reading 'map')",
            ),
            (
                "info query returned status 429: rate-overlimit",
                "info query returned status 429: rate-overlimit",
            ),
            (
                "Group with id '120363000000000777@g.us' not found",
                "Group with id '…' not found",
            ),
            (
                "no account for +49 (170) 000-0001 here",
                "no account for … here",
            ),
            ("491700000001 and 5511987654321@c.us", "… and …"),
            (
                "https://chat.whatsapp.com/UGKqxQ7c5EuE8P2SJ9YX2x is gone",
                "https://chat.whatsapp.com/… is gone",
            ),
            ("key=4bdb7a1e9f0c8d2a is wrong", "… is wrong"),
            ("line\nbreak", "line break"),
            ("r", "r"),
        ];
        for (text, plain) in rows {
            assert_eq!(quoted(text), plain);
        }
    }

    #[test]
    fn long_words_are_cut_at_a_character() {
        assert_eq!(quoted(&"ä ".repeat(500)).chars().count(), MOST);
    }
}

//! Bodies of dead letters without the picture of a `SetGroupPicture`: it may be large and private, and dead
//! letters are kept, listed and shown. A digest stands in its place.
//!
//! The digest is no Base64, so a worker refuses such a body if it is published again; `dead replay` leaves it
//! out. Called for each dead letter of a command, whether or not its body can be read.

use serde_json::Value;

use super::{Outgoing, header};
use crate::contract::{CommandType, PictureData, picture_digest};

/// As long as a digest: `sha256:` and 64 digits. A shorter text is no more than that either.
const DIGEST_CHARS: usize = 71;

/// Longer than any text of a command, apart from pictures and a group's description.
const LONG: usize = 2_048;

impl Outgoing {
    /// A dead letter without its picture. The header and the reason say so.
    #[must_use]
    pub fn without_picture(mut self, named: Option<&str>) -> Self {
        if let Some(body) = without_picture(named, &self.body) {
            self.body = body;
            self.headers
                .insert(header::PICTURE.to_owned(), "removed".to_owned());
            let reason = self.headers.entry(header::REASON.to_owned()).or_default();
            *reason = format!("{WHY} {reason}");
        }
        self
    }
}

/// First in the reason, which may be cut.
const WHY: &str =
    "(The picture is not kept, only its digest: send the command again with the picture.)";

/// The body without pictures; none if it contains none, or is no `SetGroupPicture`.
///
/// `named` is the command's type as far as it is known.
fn without_picture(named: Option<&str>, body: &[u8]) -> Option<Vec<u8>> {
    let wanted = CommandType::SetGroupPicture.as_str();
    // A body may be of any kind and size.
    let contains = |text: &str| body.utf8_chunks().any(|part| part.valid().contains(text));
    if named != Some(wanted) && !contains(wanted) {
        return None;
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return (body.len() > DIGEST_CHARS).then(|| picture_digest(body).into_bytes());
    };
    let Ok(mut body) = serde_json::from_str::<Value>(text) else {
        return without_long_pieces(text);
    };
    let mut replaced = false;
    if let Some(payload) = body.get_mut("payload") {
        replace(payload, &is_picture, &mut replaced);
    }
    replace(&mut body, &|text| text.len() > LONG, &mut replaced);
    replaced.then(|| body.to_string().into_bytes())
}

/// A text of the payload that may be a picture: all others are shorter than a digest, or a URL.
fn is_picture(text: &str) -> bool {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    text.len() > DIGEST_CHARS && !is_url
}

/// Replaces texts, and the names of fields, by their digests.
fn replace(value: &mut Value, is_picture: &impl Fn(&str) -> bool, replaced: &mut bool) {
    match value {
        Value::String(text) if is_picture(text) => {
            *text = digest_of_text(text);
            *replaced = true;
        }
        Value::Array(values) => {
            for value in values {
                replace(value, is_picture, replaced);
            }
        }
        Value::Object(fields) => {
            if fields.keys().any(|name| is_picture(name)) {
                let named = std::mem::take(fields).into_iter();
                *fields = named
                    .map(|(name, value)| {
                        let name = if is_picture(&name) {
                            digest_of_text(&name)
                        } else {
                            name
                        };
                        (name, value)
                    })
                    .collect();
                *replaced = true;
            }
            for value in fields.values_mut() {
                replace(value, is_picture, replaced);
            }
        }
        _ => {}
    }
}

/// A body that is no JSON, such as one that breaks off: its pieces between quotation marks.
fn without_long_pieces(text: &str) -> Option<Vec<u8>> {
    let mut replaced = false;
    let pieces: Vec<_> = text
        .split('"')
        .map(|piece| {
            let is_long = piece.len() > DIGEST_CHARS;
            replaced |= is_long;
            if is_long {
                digest_of_text(piece)
            } else {
                piece.to_owned()
            }
        })
        .collect();
    replaced.then(|| pieces.join("\"").into_bytes())
}

/// The digest of the picture, or of the text if it is none.
fn digest_of_text(text: &str) -> String {
    let bytes = PictureData::decode(text);
    picture_digest(bytes.as_deref().unwrap_or(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    const PNG: &[u8] = include_bytes!("../../tests/support/data/pictures/small.png");

    fn kept(named: Option<&str>, body: &str) -> Option<String> {
        let kept = without_picture(named, body.as_bytes())?;
        Some(String::from_utf8(kept).unwrap())
    }

    #[test]
    fn a_digest_stands_where_the_picture_was() {
        let data = STANDARD.encode(PNG);
        let body = |data: &str| {
            let payload = json!({"groupId": "123123123123@g.us", "picture": {"data": data}});
            json!({"id": "a".repeat(128), "type": "SetGroupPicture", "payload": payload})
        };
        let digest = picture_digest(PNG);
        assert_eq!(digest.len(), DIGEST_CHARS);
        let kept = kept(None, &body(&data).to_string()).unwrap();
        assert_eq!(kept, body(&digest).to_string());
        // A worker refuses it.
        assert!(PictureData::check(&digest).is_err());
        assert_eq!(without_picture(None, kept.as_bytes()), None);
    }

    #[test]
    fn a_picture_is_found_wherever_it_was_written() {
        let data = STANDARD.encode(PNG);
        for body in [
            json!({"payload": {"file": {"data": data}}}),
            json!({"payload": {"picture": data}}),
            json!({"payload": {"picture": {"url": format!("data:image/png;base64,{data}")}}}),
            json!({"payload": [[{"x": data}]]}),
            json!({"payload": {data.as_str(): 1}}),
            json!({"picture": data.repeat(30)}),
        ] {
            let kept = kept(Some("SetGroupPicture"), &body.to_string()).unwrap();
            assert!(kept.contains("sha256:"), "{kept}");
            assert!(!kept.contains(data.get(..40).unwrap()), "{kept}");
        }
        let broken =
            format!(r#"{{"type":"SetGroupPicture","payload":{{"picture":{{"data":"{data}"#);
        let kept = kept(None, &broken).unwrap();
        assert!(
            kept.contains("sha256:") && !kept.contains(data.get(..40).unwrap()),
            "{kept}"
        );
        let raw = without_picture(Some("SetGroupPicture"), &PNG.repeat(2)).unwrap();
        assert_eq!(raw.len(), DIGEST_CHARS);
    }

    #[test]
    fn what_holds_no_picture_is_kept_as_it_is() {
        let url = format!("https://example.com/{}", "a".repeat(1_000));
        let by_url = json!({"type": "SetGroupPicture", "payload": {"picture": {"url": url}}});
        assert_eq!(kept(None, &by_url.to_string()), None);
        let other =
            json!({"type": "SetGroupDescription", "payload": {"description": "a".repeat(2_048)}});
        assert_eq!(kept(Some("SetGroupDescription"), &other.to_string()), None);
    }
}

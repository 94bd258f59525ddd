//! The payloads about the picture of a group, and the picture itself: by URL, or as Base64.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::contract::GroupId;
use crate::contract::ids::{InvalidId, checked_text};
use crate::contract::webhook::web_url;

/// Payload of `GetGroupPicture`: the URL of the group's picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetGroupPicture {
    /// The group to ask about.
    pub group_id: GroupId,
    /// `true`: WhatsApp itself is asked. `false` (the default): the engine may answer with a URL that
    /// it has kept (WAHA: for 24 hours).
    #[serde(default)]
    pub refresh: bool,
}

/// Payload of `SetGroupPicture`: the group's new picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetGroupPicture {
    /// The group.
    pub group_id: GroupId,
    /// The picture: a JPEG or PNG of at most 4 MiB.
    pub picture: PictureSource,
}

/// Payload of `DeleteGroupPicture`: the group has no picture afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteGroupPicture {
    /// The group.
    pub group_id: GroupId,
}

/// The answer to `GetGroupPicture`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupPicture {
    /// Where the picture can be fetched; null where the group has none.
    pub url: Option<String>,
}

/// Where a picture comes from: `{"url": "…"}` or `{"data": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PictureSource {
    /// The worker fetches it.
    Url(PictureUrl),
    /// It is in the command.
    Data(PictureData),
}

checked_text! {
    hidden
    /// Where a picture is. Not shown by `Debug`: such a URL may be signed.
    PictureUrl,
    "an http:// or https:// URL of at most 2048 visible ASCII characters, without user and password",
    "^https?://[A-Za-z0-9._~\\[\\]:%-]{1,300}([/?#][!-~]{0,1700})?$",
    "https://example.com/climbing.jpg",
    web_url
}

/// A picture in Base64; clones share the text, which may have 5.6 MB.
#[derive(Clone, PartialEq, Eq)]
pub struct PictureData(Arc<String>);

/// The kinds of pictures that WhatsApp's clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureKind {
    /// `image/jpeg`
    Jpeg,
    /// `image/png`
    Png,
}

/// The largest picture, in bytes. Chosen: it holds a photo of a phone, and WhatsApp keeps 640 × 640.
pub const PICTURE_BYTES_MAX: usize = 4 << 20;

/// As long as Base64 of [`PICTURE_BYTES_MAX`].
const DATA_CHARS_MAX: usize = PICTURE_BYTES_MAX.div_ceil(3) * 4;

/// As short as Base64 of the first bytes by which a kind is told.
const DATA_CHARS_MIN: usize = 12;

const DATA_FORM: &str = "the Base64 (RFC 4648, without line breaks or a data: prefix) of a JPEG or PNG of at most 4 MiB";

impl PictureKind {
    /// The kind of a file, by its first bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else {
            None
        }
    }

    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

impl PictureData {
    /// The picture's bytes; none where the text is no Base64, which reading refuses.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        Self::decode(&self.0)
    }

    /// The bytes of a text, if it is Base64.
    #[must_use]
    pub fn decode(text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok()
    }

    /// Checks what a pattern cannot: the padding, the size, and the kind.
    ///
    /// # Errors
    /// With the reason.
    pub fn check(text: &str) -> Result<(), InvalidId> {
        let bytes = Self::decode(text).ok_or(InvalidId(DATA_FORM))?;
        if bytes.len() > PICTURE_BYTES_MAX {
            return Err(InvalidId("at most 4 MiB"));
        }
        PictureKind::of(&bytes)
            .map(drop)
            .ok_or(InvalidId("a JPEG or PNG: its first bytes are of neither"))
    }
}

/// The digest of a picture, by which it is named wherever the picture itself may not be.
#[must_use]
pub fn picture_digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

impl fmt::Debug for PictureData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PictureData({})",
            picture_digest(&self.bytes().unwrap_or_default())
        )
    }
}

impl Serialize for PictureData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PictureData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::check(&text).map_err(de::Error::custom)?;
        Ok(Self(Arc::new(text.into_owned())))
    }
}

impl JsonSchema for PictureData {
    fn schema_name() -> Cow<'static, str> {
        "PictureData".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": format!("Must be {DATA_FORM}."),
            "contentEncoding": "base64",
            "minLength": DATA_CHARS_MIN,
            "maxLength": DATA_CHARS_MAX,
            "pattern": "^[A-Za-z0-9+/]+={0,2}$",
        })
    }
}

impl JsonSchema for PictureSource {
    fn schema_name() -> Cow<'static, str> {
        "PictureSource".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Must be an object with either url or data.",
            "type": "object",
            "properties": {
                "url": generator.subschema_for::<PictureUrl>(),
                "data": generator.subschema_for::<PictureData>(),
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_shown_by_its_digest_and_a_url_not_at_all() {
        let data = STANDARD.encode(b"\xff\xd8\xff\xe0 and so on");
        let source: PictureSource =
            serde_json::from_value(serde_json::json!({ "data": data })).unwrap();
        let shown = format!("{source:?}");
        assert!(
            shown.contains("sha256:") && !shown.contains(&data),
            "{shown}"
        );
        let url = "https://example.com/a.jpg?signature=1";
        let source: PictureSource =
            serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
        assert_eq!(format!("{source:?}"), "Url(PictureUrl(…))");
    }

    #[test]
    fn the_kind_of_a_picture_is_that_of_its_first_bytes() {
        let wrong = |bytes: &[u8]| PictureData::check(&STANDARD.encode(bytes)).map_err(|it| it.0);
        assert_eq!(wrong(b"\x89PNG\r\n\x1a\n and so on"), Ok(()));
        assert!(
            wrong(b"GIF89a and so on")
                .unwrap_err()
                .contains("JPEG or PNG")
        );
        let large = [b"\xff\xd8\xff".as_slice(), &vec![0; PICTURE_BYTES_MAX]].concat();
        assert_eq!(wrong(&large), Err("at most 4 MiB"));
        assert_eq!(
            PictureData::check("/9j/4A=").map_err(|it| it.0),
            Err(DATA_FORM)
        );
    }
}

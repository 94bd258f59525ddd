//! Identifiers, each a type of its own so that one cannot stand for another.
//!
//! Reading one checks its form; the JSON Schema of each states the same form as a pattern.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct InvalidId(pub(in crate::contract) &'static str);

/// Declares a checked text: its form in words, its pattern, an example, and how it is read. One
/// declared `hidden` is not shown by `Debug`.
macro_rules! checked_text {
    (hidden $(#[$doc:meta])* $name:ident, $($rest:tt)*) => {
        $crate::contract::ids::checked_text! { @text $(#[$doc])* $name, $($rest)* }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
    (@text $(#[$doc:meta])* $name:ident, $form:literal, $pattern:literal, $example:literal, $read:expr) => {
        $(#[$doc])*
        ///
        /// Clones share the text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The identifier as it stands on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same text.
            #[must_use]
            pub fn shared(&self) -> std::sync::Arc<str> {
                std::sync::Arc::clone(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let read: fn(&str) -> Option<std::sync::Arc<str>> = $read;
                read(text).map(Self).ok_or(InvalidId($form))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize<'de>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": concat!("Must be ", $form, "."),
                    "pattern": $pattern,
                    "examples": [$example],
                })
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, $($rest:tt)*) => {
        $crate::contract::ids::checked_text! { @text $(#[$doc])* $name, $($rest)* }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0).finish()
            }
        }
    };
}

pub(in crate::contract) use checked_text;

checked_text! {
    /// What a producer calls its command; one id has one effect within a session.
    CommandId,
    "1 to 128 visible ASCII characters without spaces",
    "^[!-~]{1,128}$",
    "0192f0c4-7a2b-7c3d-9e10-5b7f1f0a9c11",
    |text| {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| text.into())
    }
}

checked_text! {
    /// One WhatsApp account, by the name its operator gave it.
    SessionName,
    "1 to 64 letters, digits, '_' or '-'",
    "^[A-Za-z0-9_-]{1,64}$",
    "default",
    |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| text.into())
    }
}

checked_text! {
    /// A group: `<digits>@g.us`, or the older `<creator>-<seconds>@g.us`.
    GroupId,
    "a group id such as 123123123123@g.us",
    "^[0-9]{5,20}(-[0-9]{1,20})?@g\\.us$",
    "123123123123@g.us",
    |text| {
        let local = text.strip_suffix("@g.us")?;
        let fits = match local.split_once('-') {
            Some((creator, created)) => digits(creator, 5) && digits(created, 1),
            None => digits(local, 5),
        };
        fits.then(|| text.into())
    }
}

checked_text! {
    /// A person: `<digits>@c.us`, or `<digits>@lid` where only the private id is known.
    ///
    /// WhatsApp's wire form `@s.whatsapp.net` is accepted and read as `@c.us`.
    ParticipantId,
    "a participant id such as 123123123123@c.us: digits only, then @c.us, @s.whatsapp.net or @lid",
    "^[0-9]{5,20}@(c\\.us|s\\.whatsapp\\.net|lid)$",
    "123123123123@c.us",
    |text| {
        let (local, domain) = text.split_once('@')?;
        let domain = match domain {
            "c.us" | "s.whatsapp.net" => "c.us",
            "lid" => "lid",
            _ => return None,
        };
        digits(local, 5).then(|| format!("{local}@{domain}").into())
    }
}

impl From<Uuid> for CommandId {
    fn from(id: Uuid) -> Self {
        Self(id.hyphenated().to_string().into())
    }
}

impl ParticipantId {
    /// Reads a person as a command may name them: by an id, with or without the device that WhatsApp's own
    /// forms may have (`123123123123:12@s.whatsapp.net`), or by a phone number as it stands in a database.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn named(text: &str) -> Result<Self, InvalidId> {
        let number = text.strip_prefix('+').unwrap_or(text);
        if (7..=15).contains(&number.len()) && digits(number, 7) {
            return Ok(Self(format!("{number}@c.us").into()));
        }
        Self::with_device(text).ok_or(InvalidId(NAMED_FORM))
    }

    /// An id of WhatsApp's, without its device. Numbers that Meta hosts for a business are `@hosted`.
    fn with_device(text: &str) -> Option<Self> {
        let (local, server) = text.split_once('@')?;
        let server = match server {
            "c.us" | "s.whatsapp.net" | "hosted" => "c.us",
            "lid" | "hosted.lid" => "lid",
            _ => return None,
        };
        let (user, device) = local.split_once(':').unwrap_or((local, "0"));
        let fits = digits(user, 5) && device.len() <= 5 && digits(device, 1);
        fits.then(|| Self(format!("{user}@{server}").into()))
    }

    /// Whether it is a phone's, and no private id.
    #[must_use]
    pub fn is_phone(&self) -> bool {
        self.0.ends_with("@c.us")
    }
}

const NAMED_FORM: &str = "a participant id such as 123123123123@c.us (or @s.whatsapp.net, or @lid), or a phone number of 7 to 15 digits";
const NAMED_PATTERN: &str = concat!(
    "^([0-9]{5,20}(:[0-9]{1,5})?@(c\\.us|s\\.whatsapp\\.net|lid|hosted|hosted\\.lid)",
    "|\\+?[0-9]{7,15})$",
);
const PHONE_FORM: &str =
    "a phone number of 7 to 15 digits, or the id of one such as 123123123123@c.us";
const PHONE_PATTERN: &str = concat!(
    "^([0-9]{5,20}(:[0-9]{1,5})?@(c\\.us|s\\.whatsapp\\.net|hosted)",
    "|\\+?[0-9]{7,15})$",
);
const LID_FORM: &str = "a private id such as 123123123123@lid, or its digits";
const LID_PATTERN: &str = "^[0-9]{5,20}((:[0-9]{1,5})?@(lid|hosted\\.lid))?$";

/// Declares the schema of an id as a command may write it.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $form:ident, $pattern:ident, $example:literal) => {
        $(#[$doc])*
        pub(in crate::contract) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": format!("Must be {}.", $form),
                    "pattern": $pattern,
                    "examples": [$example],
                })
            }
        }
    };
}

named! {
    /// The schema of what [`ParticipantId::named`] reads.
    NamedParticipant, NAMED_FORM, NAMED_PATTERN, "123123123123@c.us"
}

named! {
    /// The schema of what [`phone`] reads.
    NamedPhone, PHONE_FORM, PHONE_PATTERN, "123123123123@c.us"
}

named! {
    /// The schema of what [`lid`] reads.
    NamedLid, LID_FORM, LID_PATTERN, "123123123123@lid"
}

/// Reads a phone as a command may name it.
pub(in crate::contract) fn phone<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ParticipantId, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    let named = ParticipantId::named(&text).ok();
    let phone = named.filter(ParticipantId::is_phone);
    phone.ok_or_else(|| de::Error::custom(InvalidId(PHONE_FORM)))
}

/// Reads a private id as a command may name it.
pub(in crate::contract) fn lid<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ParticipantId, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    let read = if digits(&text, 5) {
        Some(ParticipantId(format!("{text}@lid").into()))
    } else {
        ParticipantId::with_device(&text)
    };
    let lid = read.filter(|id| !id.is_phone());
    lid.ok_or_else(|| de::Error::custom(InvalidId(LID_FORM)))
}

checked_text! {
    /// A webhook endpoint, by the name that whoever set it gave it.
    WebhookId,
    "1 to 64 letters, digits, '_' or '-'",
    "^[A-Za-z0-9_-]{1,64}$",
    "orders",
    |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| text.into())
    }
}

fn digits(text: &str, at_least: usize) -> bool {
    (at_least..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// What answered the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum EngineName {
    /// The embedded model of WhatsApp's rules.
    Sandbox,
    /// A WAHA server over HTTP.
    Waha,
    /// The `whatsapp-rust` crate.
    Native,
}

impl EngineName {
    /// The name as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "SANDBOX",
            Self::Waha => "WAHA",
            Self::Native => "NATIVE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_of_a_phone_becomes_the_public_form() {
        let read: ParticipantId = "491700000001@s.whatsapp.net".parse().unwrap();
        assert_eq!(read.as_str(), "491700000001@c.us");
        assert_eq!(
            "77@lid".parse::<ParticipantId>(),
            Err(InvalidId(
                "a participant id such as 123123123123@c.us: digits only, then @c.us, @s.whatsapp.net or @lid",
            ))
        );
        assert!("+491700000001@c.us".parse::<ParticipantId>().is_err());
        assert!("491700000001".parse::<ParticipantId>().is_err());
    }

    #[test]
    fn commands_may_name_people_by_their_numbers_too() {
        for text in [
            "491700000001@c.us",
            "491700000001@s.whatsapp.net",
            "491700000001:12@s.whatsapp.net",
            "491700000001",
            "+491700000001",
            "491700000001:12@c.us",
            "491700000001@hosted",
            "491700000001:99@hosted",
        ] {
            let read = ParticipantId::named(text).unwrap();
            assert_eq!(read.as_str(), "491700000001@c.us", "{text}");
        }
        for text in [
            "7715550000002@lid",
            "7715550000002:12@lid",
            "7715550000002@hosted.lid",
            "7715550000002:99@hosted.lid",
        ] {
            let lid = ParticipantId::named(text).unwrap();
            assert_eq!(lid.as_str(), "7715550000002@lid", "{text}");
        }
        for wrong in [
            "",
            "+",
            "123456",
            "1234567890123456",
            "++491700000001",
            "+491700000001@c.us",
            "491700000001:12:3@c.us",
            "491700000001:x@lid",
            "491700000001@hosted.c.us",
            ":12@hosted",
            "491700000001:@s.whatsapp.net",
            "491700000001:123456@s.whatsapp.net",
            "49 1700000001",
            "491700000001@g.us",
            "491700000001\n",
        ] {
            assert_eq!(
                ParticipantId::named(wrong),
                Err(InvalidId(NAMED_FORM)),
                "{wrong}"
            );
        }
    }

    #[test]
    fn both_generations_of_group_ids_are_read() {
        assert!("120363000000000001@g.us".parse::<GroupId>().is_ok());
        assert!("491700000001-1635000000@g.us".parse::<GroupId>().is_ok());
        assert!("1-2-3@g.us".parse::<GroupId>().is_err());
        assert!("@g.us".parse::<GroupId>().is_err());
        assert!("120363000000000001@c.us".parse::<GroupId>().is_err());
    }
}

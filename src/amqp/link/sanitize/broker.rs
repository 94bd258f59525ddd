//! The broker's description of itself in its greeting (`connection.start`), which lapin does not pass on.
//! Plugins are not in it; using them shows whether they are there.

use std::fmt;

/// Older versions lack queue types and policies that the topology needs.
const OLDEST: (u16, u16) = (3, 10);

/// Class and method of `connection.start`.
const START: [u8; 4] = [0, 10, 0, 10];

/// The broker's description of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    product: String,
    version: String,
}

impl Broker {
    /// Reads it from the payload of a method frame; none for any other method, or without product and
    /// version.
    pub(in crate::amqp) fn read(payload: &[u8]) -> Option<Self> {
        let properties = payload.strip_prefix(&START)?;
        Some(Self {
            product: text(properties, b"\x07productS")?,
            version: text(properties, b"\x07versionS")?,
        })
    }

    /// Whether it is a RabbitMQ older than the oldest supported version.
    pub(in crate::amqp) fn is_too_old(&self) -> bool {
        let mut numbers = self.version.split('.').map(|it| it.parse::<u16>().ok());
        let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
        let version = major.zip(minor);
        self.product == "RabbitMQ" && version.is_some_and(|version| version < OLDEST)
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.product, self.version)
    }
}

/// A long string in a table, found by the bytes of its name (preceded by its length, followed by its type):
/// no string in a broker's description holds a control character.
fn text(table: &[u8], name: &[u8]) -> Option<String> {
    let found = table.windows(name.len()).position(|it| it == name)?;
    let (length, rest) = table.get(found + name.len()..)?.split_first_chunk()?;
    let text = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let text = std::str::from_utf8(text).ok()?;
    let is_plain = text.len() <= 64 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    is_plain.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(product: &str, version: &str) -> Vec<u8> {
        let mut payload = [&START[..], &[0, 9, 0, 0, 0, 99]].concat();
        for (name, text) in [("product", product), ("version", version)] {
            payload.push(7);
            payload.extend_from_slice(name.as_bytes());
            payload.push(b'S');
            payload.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(text.as_bytes());
        }
        payload
    }

    #[test]
    fn a_broker_is_known_by_its_greeting() {
        let broker = Broker::read(&greeting("RabbitMQ", "4.0.5")).unwrap();
        assert_eq!(broker.to_string(), "RabbitMQ 4.0.5");
        let mut other = greeting("RabbitMQ", "4.0.5");
        other[3] = 50;
        assert_eq!(Broker::read(&other), None);
        let cut_off = greeting("RabbitMQ", "4.0.5");
        assert_eq!(Broker::read(&cut_off[..cut_off.len() - 1]), None);
    }

    #[test]
    fn only_a_rabbitmq_that_is_known_to_be_old_is_too_old() {
        for (product, version, too_old) in [
            ("RabbitMQ", "3.9.29", true),
            ("RabbitMQ", "2.8.7", true),
            ("RabbitMQ", "3.10.0", false),
            ("RabbitMQ", "3.13.7+dirty", false),
            ("RabbitMQ", "4.0.5", false),
            ("RabbitMQ", "next", false),
            ("LavinMQ", "2.1.0", false),
        ] {
            let broker = Broker::read(&greeting(product, version)).unwrap();
            assert_eq!(broker.is_too_old(), too_old, "{broker}");
        }
    }
}

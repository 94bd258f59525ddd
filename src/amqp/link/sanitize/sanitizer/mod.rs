//! Makes the broker's frames readable for lapin.
//!
//! A broker passes a producer's properties on unchanged. lapin gives up the whole connection when a short
//! string is not UTF-8 or a header frame is larger than negotiated, and overflows its stack (which ends the
//! process) when tables nest some thousand levels deep: one message could stop every worker again and
//! again. So strings are made UTF-8 here, and only the headers that we can use pass: strings, numbers,
//! booleans and timestamps, up to a size. Bodies pass unchanged.
//!
//! It knows frames and the few methods that carry foreign strings (AMQP 0-9-1, 4.2.3 and 4.2.6); everything
//! else passes unchanged. It does no input or output: `stream` calls it.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, OnceLock};

use crate::amqp::Broker;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// Type, channel and size of a frame.
const HEAD: usize = 7;
/// No broker sends a larger method or header frame.
const MOST_HELD: usize = 4 << 20;

/// Reads the broker's bytes and returns readable ones.
#[derive(Debug)]
pub(in crate::amqp) struct FrameSanitizer {
    /// The number of bytes that pass unchanged.
    passing: usize,
    /// The beginning of a frame that has not arrived completely.
    held: Vec<u8>,
    ready: Vec<u8>,
    given: usize,
    headers_max: usize,
    greeting: Arc<OnceLock<Broker>>,
}

/// What to do with a frame, and its length in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Pass(usize),
    Sanitize(usize),
}

impl FrameSanitizer {
    /// Passes at most `headers_max` bytes of a message's headers, and records the broker's greeting.
    pub(in crate::amqp) const fn new(headers_max: usize, greeting: Arc<OnceLock<Broker>>) -> Self {
        Self {
            passing: 0,
            held: Vec::new(),
            ready: Vec::new(),
            given: 0,
            headers_max,
            greeting,
        }
    }

    /// Takes bytes as they arrived.
    pub(in crate::amqp) fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.passing > 0 {
                let passed = take(&mut bytes, self.passing);
                self.ready.extend_from_slice(passed);
                self.passing -= passed.len();
            } else if !self.held.is_empty() {
                self.extend_held(&mut bytes)?;
            } else {
                match frame(bytes)? {
                    Some(Frame::Pass(length)) => self.passing = length,
                    Some(Frame::Sanitize(length)) if length <= bytes.len() => {
                        let whole = take(&mut bytes, length);
                        record_greeting(whole, &self.greeting);
                        sanitize(whole, self.headers_max, &mut self.ready);
                    }
                    _ => self.held.extend_from_slice(take(&mut bytes, HEAD)),
                }
            }
        }
        Ok(())
    }

    /// Adds to the frame that has begun to arrive.
    fn extend_held(&mut self, bytes: &mut &[u8]) -> io::Result<()> {
        let wanted = match frame(&self.held)? {
            Some(Frame::Pass(length) | Frame::Sanitize(length)) => length,
            None => HEAD,
        };
        let more = take(bytes, wanted - self.held.len());
        self.held.extend_from_slice(more);
        match frame(&self.held)? {
            Some(Frame::Pass(length)) => {
                self.passing = length - self.held.len();
                self.ready.append(&mut self.held);
            }
            Some(Frame::Sanitize(length)) if length == self.held.len() => {
                record_greeting(&self.held, &self.greeting);
                sanitize(&self.held, self.headers_max, &mut self.ready);
                self.held.clear();
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns as many readable bytes as there are and fit.
    pub(in crate::amqp) fn give(&mut self, buffer: &mut [u8]) -> usize {
        let mut waiting = self.ready.get(self.given..).unwrap_or_default();
        let given = take(&mut waiting, buffer.len());
        buffer[..given.len()].copy_from_slice(given);
        let count = given.len();
        self.given += count;
        if self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
        }
        count
    }
}

/// What to do with the frame that begins with these bytes; none while its head is incomplete.
fn frame(bytes: &[u8]) -> io::Result<Option<Frame>> {
    let Some([kind, _, _, size @ ..]) = bytes.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    // The head, the payload, and the octet that ends a frame.
    let length = HEAD + u32::from_be_bytes(*size) as usize + 1;
    match *kind {
        METHOD | HEADER if length > MOST_HELD => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the broker sent a frame that is too large",
        )),
        METHOD | HEADER => Ok(Some(Frame::Sanitize(length))),
        // "AMQP" and a version: the broker requires another protocol, and sends nothing else.
        b'A' => Ok(Some(Frame::Pass(usize::MAX))),
        _ => Ok(Some(Frame::Pass(length))),
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

/// Records the broker's greeting, which is sent once.
fn record_greeting(frame: &[u8], greeting: &OnceLock<Broker>) {
    if greeting.get().is_none()
        && let Some(broker) = frame.get(HEAD..).and_then(Broker::read)
    {
        greeting.set(broker).ok();
    }
}

/// Adds a method or header frame, made readable; unchanged if its form is unknown.
fn sanitize(frame: &[u8], headers_max: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    if try_sanitize(frame, headers_max, out).is_none() {
        out.truncate(begin);
        out.extend_from_slice(frame);
    }
}

fn try_sanitize(frame: &[u8], headers_max: usize, out: &mut Vec<u8>) -> Option<()> {
    let (head, rest) = frame.split_at_checked(HEAD)?;
    let (end, payload) = rest.split_last()?;
    out.extend_from_slice(&head[..3]);
    with_length(out, |out| match head.first() {
        Some(&METHOD) => method(payload, out),
        _ => header(payload, headers_max, out),
    })?;
    out.push(*end);
    Some(())
}

/// Adds the output of `write`, preceded by its length in four bytes.
fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<()> {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = u32::try_from(out.len() - begin - 4).ok()?;
    out.get_mut(begin..begin + 4)?
        .copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// A field of a method or of a property list.
#[derive(Debug, Clone, Copy)]
enum Part {
    Fixed(usize),
    Short,
    Table,
}

use Part::{Fixed, Short, Table};

/// The methods that carry foreign strings, by class and method.
fn parts(class: u16, method: u16) -> Option<&'static [Part]> {
    match (class, method) {
        // connection.close, channel.close: code, text, class, method.
        (10, 50) | (20, 40) => Some(&[Fixed(2), Short, Fixed(4)]),
        // basic.return: code, text, exchange, routing key.
        (60, 50) => Some(&[Fixed(2), Short, Short, Short]),
        // basic.deliver: consumer tag, delivery tag, redelivered, exchange, routing key.
        (60, 60) => Some(&[Short, Fixed(9), Short, Short]),
        // basic.get-ok: delivery tag, redelivered, exchange, routing key, message count.
        (60, 71) => Some(&[Fixed(9), Short, Short, Fixed(4)]),
        _ => None,
    }
}

fn method(payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (ids, mut rest) = payload.split_at_checked(4)?;
    let [c0, c1, m0, m1] = ids.try_into().ok()?;
    let parts = parts(u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]))?;
    out.extend_from_slice(ids);
    for part in parts {
        part.pass(&mut rest, 0, out)?;
    }
    Some(())
}

/// The properties of class basic, in the order of their flags.
const PROPERTIES: [Part; 14] = [
    Short,
    Short,
    Table,
    Fixed(1),
    Fixed(1),
    Short,
    Short,
    Short,
    Short,
    Fixed(8),
    Short,
    Short,
    Short,
    Short,
];

/// A content header. A truncated property ends the list; unknown ones are left out.
fn header(payload: &[u8], headers_max: usize, out: &mut Vec<u8>) -> Option<()> {
    let (fixed, rest) = payload.split_at_checked(12)?;
    let (flags, mut rest) = rest.split_first_chunk()?;
    let flags = u16::from_be_bytes(*flags);
    out.extend_from_slice(fixed);
    let place_of_flags = out.len();
    out.extend_from_slice(&[0; 2]);
    let mut kept = 0_u16;
    for (place, part) in PROPERTIES.iter().enumerate() {
        let bit = 1 << (15 - place);
        if flags & bit != 0 {
            let begin = out.len();
            if part.pass(&mut rest, headers_max, out).is_none() {
                out.truncate(begin);
                break;
            }
            kept |= bit;
        }
    }
    out.get_mut(place_of_flags..place_of_flags + 2)?
        .copy_from_slice(&kept.to_be_bytes());
    Some(())
}

impl Part {
    /// Reads this field and adds it, made readable; none where it is truncated.
    fn pass(self, bytes: &mut &[u8], headers_max: usize, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Fixed(length) => {
                out.extend_from_slice(exactly(bytes, length)?);
                Some(())
            }
            Short => {
                add_short(&short(bytes)?, out);
                Some(())
            }
            Table => {
                let entries = long(bytes)?;
                with_length(out, |out| {
                    table(entries, headers_max, out);
                    Some(())
                })
            }
        }
    }
}

fn exactly<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A long string, table or array, without its length.
fn long<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(exactly(bytes, 4)?.try_into().ok()?);
    exactly(bytes, length as usize)
}

/// A short string; bytes that are not UTF-8 become U+FFFD, cut to the size of a short string.
fn short<'a>(bytes: &mut &'a [u8]) -> Option<Cow<'a, str>> {
    let length = exactly(bytes, 1)?;
    let text = exactly(bytes, usize::from(*length.first()?))?;
    let mut text = String::from_utf8_lossy(text);
    if text.len() > 255 {
        let end = text.floor_char_boundary(255);
        text.to_mut().truncate(end);
    }
    Some(text)
}

fn add_short(text: &str, out: &mut Vec<u8>) {
    // At most 255, by `short`.
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

/// An entry of a table: its name, and its value with the type octet.
struct Entry<'a> {
    name: Cow<'a, str>,
    value: &'a [u8],
    is_usable: bool,
}

impl Entry<'_> {
    fn len(&self) -> usize {
        1 + self.name.len() + self.value.len()
    }
}

/// Adds the usable entries of a table, the smallest first if not all of them fit.
fn table(mut entries: &[u8], most: usize, out: &mut Vec<u8>) {
    let mut usable = Vec::new();
    while let Some(entry) = entry(&mut entries) {
        if entry.is_usable {
            usable.push(entry);
        }
    }
    // A producer's large header must not displace the small ones, among them those that groupmq added.
    usable.sort_by_key(Entry::len);
    let begin = out.len();
    for entry in usable {
        if out.len() - begin + entry.len() <= most {
            add_short(&entry.name, out);
            out.extend_from_slice(entry.value);
        }
    }
}

/// The next entry; none at the end, or where it is truncated.
fn entry<'a>(entries: &mut &'a [u8]) -> Option<Entry<'a>> {
    let name = short(entries)?;
    let before = *entries;
    let kind = *exactly(entries, 1)?.first()?;
    let is_usable = match kind {
        // Skipped as a whole, with everything in them.
        b'F' | b'A' | b'x' => {
            long(entries)?;
            false
        }
        b'S' => {
            long(entries)?;
            true
        }
        kind => {
            exactly(entries, fixed_length(kind)?)?;
            true
        }
    };
    let value = before.get(..before.len() - entries.len())?;
    Some(Entry {
        name,
        value,
        is_usable,
    })
}

/// The length of a value in a table by RabbitMQ's type octets, which differ from the specification's.
const fn fixed_length(kind: u8) -> Option<usize> {
    match kind {
        b'V' => Some(0),
        b't' | b'b' | b'B' => Some(1),
        b's' | b'u' | b'U' => Some(2),
        b'I' | b'i' | b'f' => Some(4),
        b'D' => Some(5),
        b'L' | b'l' | b'T' | b'd' => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

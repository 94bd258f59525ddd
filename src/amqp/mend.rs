//! Makes what the broker passes on readable, byte by byte, before lapin sees it.
//!
//! A broker hands on a producer's properties as they came. lapin gives up the whole connection when
//! a short text is not UTF-8 or a header frame is larger than negotiated, and overflows its stack
//! (which ends the process) when tables nest some thousand deep: one message could stop every worker
//! again and again. So texts are made UTF-8 here, and of the headers only those pass that we can
//! use: texts, numbers, flags and times, up to a size. Bodies pass untouched.
//!
//! It knows frames and the few methods that carry foreign texts (AMQP 0-9-1, 4.2.3 and 4.2.6); all
//! else passes as it is. It does no input or output: [`super::stream`] calls it.

use std::io;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// Type, channel and size of a frame.
const HEAD: usize = 7;
/// A method or header frame that is larger is no broker's.
const MOST_HELD: usize = 4 << 20;

/// Reads the broker's bytes and gives readable ones.
#[derive(Debug)]
pub(super) struct Mender {
    state: State,
    ready: Vec<u8>,
    given: usize,
    headers_max: usize,
}

#[derive(Debug)]
enum State {
    /// Collecting the head of a frame.
    Head(Vec<u8>),
    /// So many bytes of the frame pass as they are.
    Passing(usize),
    /// Collecting a frame that may have to be mended: its head, its length in all, its bytes.
    Holding(usize, Vec<u8>),
}

impl Mender {
    /// Lets so many bytes of a message's headers through.
    pub(super) const fn new(headers_max: usize) -> Self {
        Self {
            state: State::Head(Vec::new()),
            ready: Vec::new(),
            given: 0,
            headers_max,
        }
    }

    /// Takes bytes as they came.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.state = match std::mem::replace(&mut self.state, State::Passing(0)) {
                State::Passing(0) => State::Head(Vec::with_capacity(HEAD)),
                State::Passing(left) => {
                    let passed = take(&mut bytes, left);
                    self.ready.extend(passed);
                    State::Passing(left - passed.len())
                }
                State::Head(mut head) => {
                    head.extend(take(&mut bytes, HEAD - head.len()));
                    self.begun(head)?
                }
                State::Holding(length, mut frame) => {
                    frame.extend(take(&mut bytes, length - frame.len()));
                    if frame.len() == length {
                        self.ready.extend(mended(&frame, self.headers_max));
                        State::Passing(0)
                    } else {
                        State::Holding(length, frame)
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives as many readable bytes as there are and fit.
    pub(super) fn give(&mut self, buffer: &mut [u8]) -> usize {
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

    /// What to do with a frame of which this is the head, or a part of the head.
    fn begun(&mut self, head: Vec<u8>) -> io::Result<State> {
        let Ok([kind, _, _, s0, s1, s2, s3]) = <[u8; HEAD]>::try_from(head.as_slice()) else {
            return Ok(State::Head(head));
        };
        // The payload, and the octet that ends a frame.
        let rest = u32::from_be_bytes([s0, s1, s2, s3]) as usize + 1;
        match kind {
            METHOD | HEADER if rest > MOST_HELD => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the broker sent a frame that is too large",
            )),
            METHOD | HEADER => Ok(State::Holding(HEAD + rest, head)),
            // "AMQP" and a version: the broker wants another protocol, and says no more.
            b'A' => {
                self.ready.extend(head);
                Ok(State::Passing(usize::MAX))
            }
            _ => {
                self.ready.extend(head);
                Ok(State::Passing(rest))
            }
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

/// A method or header frame, made readable; as it was where it has no form that we know.
fn mended(frame: &[u8], headers_max: usize) -> Vec<u8> {
    let Some((head, [payload @ .., end])) = frame.split_at_checked(HEAD) else {
        return frame.to_vec();
    };
    let mended = match head.first() {
        Some(&METHOD) => method(payload),
        _ => header(payload, headers_max),
    };
    let Some(payload) = mended else {
        return frame.to_vec();
    };
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&head[..3], &size.to_be_bytes(), &payload, &[*end]].concat()
}

/// A part of a method or of a property list.
#[derive(Debug, Clone, Copy)]
enum Part {
    Fixed(usize),
    Short,
    Table,
}

use Part::{Fixed, Short, Table};

/// The methods that carry texts which are not ours, by class and method.
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

fn method(payload: &[u8]) -> Option<Vec<u8>> {
    let (ids, mut rest) = payload.split_at_checked(4)?;
    let [c0, c1, m0, m1] = ids.try_into().ok()?;
    let parts = parts(u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]))?;
    let mut mended = ids.to_vec();
    for part in parts {
        mended.extend(part.read(&mut rest, 0)?);
    }
    Some(mended)
}

/// The properties of class basic, by their bit in the flags, in their order.
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

/// A content header. A property that breaks off ends the list; unknown ones are left out.
fn header(payload: &[u8], headers_max: usize) -> Option<Vec<u8>> {
    let (fixed, rest) = payload.split_at_checked(12)?;
    let (flags, mut rest) = rest.split_first_chunk()?;
    let flags = u16::from_be_bytes(*flags);
    let mut kept = 0;
    let mut properties = Vec::with_capacity(rest.len());
    for (place, part) in PROPERTIES.iter().enumerate() {
        let bit = 1 << (15 - place);
        if flags & bit != 0 {
            let Some(property) = part.read(&mut rest, headers_max) else {
                break;
            };
            properties.extend(property);
            kept |= bit;
        }
    }
    Some([fixed, &u16::to_be_bytes(kept), &properties].concat())
}

impl Part {
    /// Takes this part from the front and gives it back mended; none where it breaks off.
    fn read(self, bytes: &mut &[u8], headers_max: usize) -> Option<Vec<u8>> {
        match self {
            Fixed(length) => exactly(bytes, length).map(<[u8]>::to_vec),
            Short => short(bytes),
            Table => {
                let entries = long(bytes)?;
                let entries = table(entries, headers_max);
                let length = u32::try_from(entries.len()).ok()?;
                Some([&length.to_be_bytes()[..], &entries].concat())
            }
        }
    }
}

fn exactly<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A long text, table or array, without its length.
fn long<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(exactly(bytes, 4)?.try_into().ok()?);
    exactly(bytes, length as usize)
}

/// A short text with its length; what is not UTF-8 in it becomes U+FFFD.
fn short(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let length = exactly(bytes, 1)?;
    let text = exactly(bytes, usize::from(*length.first()?))?;
    let text = String::from_utf8_lossy(text);
    let text = text.get(..text.floor_char_boundary(255))?;
    let length = u8::try_from(text.len()).ok()?;
    Some([&[length], text.as_bytes()].concat())
}

/// The entries of a table that we can use, the small ones first where not all of them fit.
fn table(mut entries: &[u8], most: usize) -> Vec<u8> {
    let mut usable = Vec::new();
    while let Some((entry, is_usable)) = entry(&mut entries) {
        if is_usable {
            usable.push(entry);
        }
    }
    // A producer's large header must not cost the small ones, among them those that we have added.
    usable.sort_by_key(Vec::len);
    let mut kept = Vec::new();
    for entry in usable {
        if kept.len() + entry.len() <= most {
            kept.extend(entry);
        }
    }
    kept
}

/// The next entry, mended, and whether it is of use; none at the end, or where it breaks off.
fn entry(entries: &mut &[u8]) -> Option<(Vec<u8>, bool)> {
    let name = short(entries)?;
    let kind = exactly(entries, 1)?;
    let before = *entries;
    let usable = match kind.first()? {
        // Skipped as a whole, whatever is in them.
        b'F' | b'A' | b'x' => {
            long(entries)?;
            false
        }
        b'S' => {
            long(entries)?;
            true
        }
        kind => {
            exactly(entries, fixed_length(*kind)?)?;
            true
        }
    };
    let value = before.get(..before.len() - entries.len())?;
    Some(([&name, kind, value].concat(), usable))
}

/// How long a value is in a table, by RabbitMQ's letters, which differ from the specification's.
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

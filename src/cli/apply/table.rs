//! The column of a CSV file that has the people of a group.

use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::number;
use super::problems::{Place, Problem};
use crate::contract::ParticipantId;

/// Somebody, and the line.
pub(super) type Row = (ParticipantId, Place);

/// Reads a column, whose name is in the first row; every row without a number in it is a problem.
pub(super) fn read(path: &Path, column: &str) -> Result<Vec<Row>, Vec<Problem>> {
    let file = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => rows(&file, &bytes, column),
        Err(error) => {
            let reason = format!("cannot be read: {error}");
            Err(vec![Problem::new(Place::new(&file, 1), "", reason)])
        }
    }
}

fn rows(file: &str, bytes: &[u8], column: &str) -> Result<Vec<Row>, Vec<Problem>> {
    let at = |line| Place::new(file, line);
    let fail = |reason: String| vec![Problem::new(at(1), "", reason)];
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(fail("is UTF-16: save it as \"CSV UTF-8\"".to_owned()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter(bytes))
        // A row that ends early lacks its number perhaps, which is said of that row.
        .flexible(true)
        .from_reader(bytes);
    let header = reader
        .byte_headers()
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    let names: Vec<_> = header.iter().map(name).collect();
    let mut places = names
        .iter()
        .enumerate()
        .filter(|(_, it)| *it == column.trim());
    let place = match (places.next(), places.next()) {
        (Some((place, _)), None) => place,
        (Some(_), Some(_)) => return Err(fail(format!("has two columns {column:?}"))),
        (None, _) => {
            let names = names.join(", ");
            return Err(fail(format!(
                "has no column {column:?} in its first row, which has: {names}"
            )));
        }
    };
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut row = ByteRecord::new();
    let mut lines = Lines::of(bytes);
    loop {
        match reader.read_byte_record(&mut row) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                problems.push(Problem::new(at(1), "", format!("cannot be read: {error}")));
                break;
            }
        }
        let line = lines.at(row.position());
        let written = String::from_utf8_lossy(row.get(place).unwrap_or_default());
        match number::read(&written) {
            Ok(id) => rows.push((id, at(line))),
            Err(reason) => problems.push(Problem::new(at(line), column, reason)),
        }
    }
    if rows.is_empty() && problems.is_empty() {
        // A file cut off would otherwise ask for an empty group.
        problems.push(Problem::new(at(1), "", "has no rows"));
    }
    if problems.is_empty() {
        Ok(rows)
    } else {
        Err(problems)
    }
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Counts lines. The reader's own count is that of the empty line, or the end of the line, before a row.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    const fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            line: 1,
        }
    }

    /// The line of a row, which comes after the one that was asked for before.
    fn at(&mut self, row: Option<&csv::Position>) -> u64 {
        let begin = row.and_then(|it| usize::try_from(it.byte()).ok());
        let begin = begin.unwrap_or(self.at);
        while let Some(byte) = self.bytes.get(self.at)
            && (self.at < begin || matches!(byte, b'\r' | b'\n'))
        {
            self.line += u64::from(*byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}

/// What stands between the columns: spreadsheets of some languages write `;`, others copy tabs.
fn delimiter(bytes: &[u8]) -> u8 {
    let first = bytes.split(|it| matches!(it, b'\n' | b'\r')).next();
    let first = first.unwrap_or_default();
    let count = |delimiter: u8| {
        let mut quoted = false;
        let outside = first.iter().filter(|it| {
            quoted ^= **it == b'"';
            !quoted && **it == delimiter
        });
        outside.count()
    };
    // Of several that are as frequent the last is taken: the comma.
    let delimiters = [b'\t', b';', b','];
    delimiters
        .into_iter()
        .max_by_key(|it| count(*it))
        .unwrap_or(b',')
}

//! Statements over many rows at once.
//!
//! Row counts are rounded so that few distinct texts exist and all stay prepared: a list of keys
//! is filled up with its last key, rows to write are cut into powers of two and one and a half times those.

use std::fmt::Write as _;

use super::value::Value;

/// Rows in one statement at most; times nine columns, that stays below both databases' limits of
/// placeholders (SQLite 32,766, PostgreSQL 65,535).
const MOST_ROWS: usize = 256;

/// Distinct statements kept prepared on a connection; the writer has fewer than that.
pub(in crate::store) const PREPARED: usize = 200;

/// How a statement marks the place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Mark {
    /// `?`, SQLite's own. It takes `$1` too, but as a name, which it looks up once per value in a
    /// list of all: with a thousand values, that costs more than writing them.
    Question,
    /// `$1`, PostgreSQL's.
    Number,
}

/// Rows of placeholders, `($1,$2),($3,$4)`.
pub(in crate::store) fn placeholders(mark: Mark, rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 6);
    let mut next = 1;
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            if column > 0 {
                text.push(',');
            }
            match mark {
                Mark::Question => text.push('?'),
                // Writing to a string cannot fail.
                Mark::Number => write!(text, "${next}").unwrap_or_default(),
            }
            next += 1;
        }
        text.push(')');
    }
    text
}

/// Cuts keys into lists to ask for: each filled up to a power of two by repeating its last key.
pub(in crate::store) fn key_lists<K>(keys: Vec<K>) -> Vec<(usize, Vec<Value>)>
where
    K: IntoIterator<Item = Value>,
{
    let mut lists = Vec::new();
    let mut keys = keys.into_iter();
    while keys.len() > 0 {
        let count = keys.len().min(MOST_ROWS);
        let mut values: Vec<_> = keys.by_ref().take(count).flatten().collect();
        let rows = count.next_power_of_two();
        let all = values.len();
        for _ in count..rows {
            values.extend_from_within(all - all / count..all);
        }
        lists.push((rows, values));
    }
    lists
}

/// Cuts rows to write into few lists of few different lengths.
pub(in crate::store) fn row_lists<R>(rows: Vec<R>) -> Vec<(usize, Vec<Value>)>
where
    R: IntoIterator<Item = Value>,
{
    let mut lists = Vec::new();
    let mut left = rows.len();
    let mut rows = rows.into_iter();
    while left > 0 {
        let power = 1 << left.min(MOST_ROWS).ilog2();
        let take = if left >= power + power / 2 && power < MOST_ROWS {
            power + power / 2
        } else {
            power
        };
        lists.push((take, rows.by_ref().take(take).flatten().collect()));
        left -= take;
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: i64) -> Vec<[Value; 1]> {
        (0..count).map(|n| [Value::Int(n)]).collect()
    }

    #[test]
    fn placeholders_count_through_all_rows() {
        assert_eq!(placeholders(Mark::Number, 2, 3), "($1,$2,$3),($4,$5,$6)");
        assert_eq!(placeholders(Mark::Question, 2, 2), "(?,?),(?,?)");
    }

    #[test]
    fn a_list_of_keys_is_filled_up_to_a_power_of_two() {
        let lists = key_lists(rows(300));
        let shape: Vec<_> = lists
            .iter()
            .map(|(rows, values)| (*rows, values.len()))
            .collect();
        assert_eq!(shape, [(256, 256), (64, 64)]);
        assert!(matches!(lists[1].1.last(), Some(Value::Int(299))));
    }

    #[test]
    fn rows_are_written_once_each_in_few_statements() {
        for count in [0, 1, 2, 3, 255, 256, 257, 1000] {
            let lists = row_lists(rows(count));
            let written: Vec<_> = lists.iter().flat_map(|(_, values)| values).collect();
            assert_eq!(written.len(), usize::try_from(count).unwrap());
            let is_round = |rows: usize| rows.is_power_of_two() || (rows / 3 * 2).is_power_of_two();
            assert!(
                lists
                    .iter()
                    .all(|(rows, values)| is_round(*rows) && *rows == values.len())
            );
            assert!(lists.len() <= 7);
        }
    }
}

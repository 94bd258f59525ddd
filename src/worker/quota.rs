//! The number of shards that one worker should own.
//!
//! If the shards cannot be divided evenly, some workers have one more than others. Those are the ones that
//! have it already, then the first by name; every worker sees the same numbers and reaches the same result.

use std::collections::BTreeMap;

/// The number of shards of each worker.
pub(super) type Counts<'a> = BTreeMap<&'a str, usize>;

/// How many of all shards a worker should own among all workers.
pub(super) fn shards_for(me: &str, shards: usize, workers: usize, counts: &Counts<'_>) -> usize {
    let workers = workers.max(1);
    let (fair, remainder) = (shards / workers, shards % workers);
    let mut larger = counts.iter().filter(|(_, count)| **count > fair);
    let has_more = match larger.clone().position(|(name, _)| *name == me) {
        Some(place) => place < remainder,
        None => larger.by_ref().count() < remainder,
    };
    fair + usize::from(has_more)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_single_worker_has_all() {
        assert_eq!(shards_for("a", 16, 1, &Counts::new()), 16);
    }

    #[test]
    fn who_has_one_more_already_keeps_it() {
        let counts = Counts::from([("a", 1), ("b", 2), ("c", 1)]);
        assert_eq!(shards_for("a", 4, 3, &counts), 1);
        assert_eq!(shards_for("b", 4, 3, &counts), 2);
    }

    #[test]
    fn of_more_workers_than_shards_some_stand_by() {
        let counts = Counts::from([("a", 1), ("b", 0)]);
        assert_eq!(shards_for("a", 1, 2, &counts), 1);
        assert_eq!(shards_for("b", 1, 2, &counts), 0);
        assert_eq!(shards_for("b", 1, 2, &Counts::from([("b", 0)])), 1);
    }

    proptest! {
        /// From any distribution, workers that hand back and take one after the other reach one in which no
        /// worker has two more than another, and every shard has its worker.
        #[test]
        fn any_distribution_becomes_even(
            had in proptest::collection::vec(0_usize..20, 1..8),
            shards in 1_usize..40,
        ) {
            let names: Vec<String> = (0..had.len()).map(|n| format!("w{n}")).collect();
            let mut left = shards;
            let mut counts = Counts::new();
            for (name, had) in names.iter().zip(&had) {
                let has = (*had).min(left);
                left -= has;
                counts.insert(name, has);
            }
            for _ in 0..2 * names.len() + 2 {
                for name in &names {
                    let quota = shards_for(name, shards, names.len(), &counts);
                    let has = counts[name.as_str()];
                    if has > quota {
                        left += has - quota;
                        counts.insert(name, quota);
                    } else {
                        let takes = (quota - has).min(left);
                        left -= takes;
                        counts.insert(name, has + takes);
                    }
                }
            }
            let most = counts.values().max().copied().unwrap_or_default();
            let least = counts.values().min().copied().unwrap_or_default();
            prop_assert_eq!(left, 0);
            prop_assert!(most - least <= 1, "{:?}", counts);
        }
    }
}

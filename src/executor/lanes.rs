//! Lanes: the commands of one group (or webhook endpoint) are executed one after the other, in order of
//! arrival.
//!
//! A lane exists only while something is in it. The caller that finds it empty runs it to its end; later
//! callers queue their item and return.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use parking_lot::Mutex;

use crate::contract::LaneName;

/// Items waiting, by lane.
#[derive(Debug)]
pub struct LaneQueue<T> {
    // A std mutex: it is held for a map operation and never across an await.
    waiting: Mutex<HashMap<LaneName, VecDeque<T>>>,
}

impl<T> Default for LaneQueue<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
        }
    }
}

impl<T> LaneQueue<T> {
    /// Enters a lane. Returns the item if the lane was empty: the caller runs it now, and then the items
    /// that [`LaneQueue::next`] returns, until there are none.
    pub fn enter(&self, name: &LaneName, item: T) -> Option<T> {
        match self.waiting.lock().entry(name.clone()) {
            Entry::Occupied(mut lane) => {
                lane.get_mut().push_back(item);
                None
            }
            Entry::Vacant(lane) => {
                lane.insert(VecDeque::new());
                Some(item)
            }
        }
    }

    /// The next item of a lane; none closes it.
    pub fn next(&self, name: &LaneName) -> Option<T> {
        let mut lanes = self.waiting.lock();
        let next = lanes.get_mut(name)?.pop_front();
        if next.is_none() {
            lanes.remove(name);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_run_by_who_finds_it_empty_and_in_order() {
        let lanes = LaneQueue::default();
        let group = LaneName::from("120363000000000001@g.us".to_owned());
        let other = LaneName::from("120363000000000002@g.us".to_owned());
        assert_eq!(lanes.enter(&group, 1), Some(1));
        assert_eq!(lanes.enter(&group, 2), None);
        assert_eq!(lanes.enter(&other, 9), Some(9));
        assert_eq!(lanes.enter(&group, 3), None);
        assert_eq!(lanes.next(&group), Some(2));
        assert_eq!(lanes.next(&group), Some(3));
        assert_eq!(lanes.next(&group), None);
        assert_eq!(lanes.enter(&group, 4), Some(4));
    }
}

//! Lists through the slots of a ring: linked by number, so that nothing is allocated for a member.

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// The two ends of a list. Whose links these are is known to whoever holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };

    pub(super) fn is_empty(self) -> bool {
        self.first == NONE
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

/// What links the slots to each other in lists of one kind; a slot is in at most one of them.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

impl Links {
    /// Makes room for one more slot, which is in no list.
    pub(super) fn grow(&mut self) {
        self.0.push(Link {
            before: NONE,
            after: NONE,
        });
    }

    pub(super) fn after(&self, slot: u32) -> u32 {
        self.0[slot as usize].after
    }

    pub(super) fn before(&self, slot: u32) -> u32 {
        self.0[slot as usize].before
    }

    pub(super) fn push(&mut self, list: &mut List, slot: u32) {
        self.0[slot as usize] = Link {
            before: list.last,
            after: NONE,
        };
        match list.last {
            NONE => list.first = slot,
            last => self.0[last as usize].after = slot,
        }
        list.last = slot;
    }

    /// The slot is in a list of its own, whose ends nobody needs.
    pub(super) fn alone(&mut self, slot: u32) {
        self.push(&mut { List::EMPTY }, slot);
    }

    /// The slot comes behind `before`, the last of such a list.
    pub(super) fn join(&mut self, before: u32, slot: u32) {
        self.0[slot as usize] = Link { before, after: NONE };
        self.0[before as usize].after = slot;
    }

    /// Takes the slot out of such a list.
    pub(super) fn part(&mut self, slot: u32) {
        self.remove(&mut { List::EMPTY }, slot);
    }

    /// Takes the slot out of the list that it is in.
    pub(super) fn remove(&mut self, list: &mut List, slot: u32) {
        let Link { before, after } = self.0[slot as usize];
        match before {
            NONE => list.first = after,
            before => self.0[before as usize].after = after,
        }
        match after {
            NONE => list.last = before,
            after => self.0[after as usize].before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(links: &Links, list: List) -> Vec<u32> {
        let is_there = |slot: &u32| *slot != NONE;
        std::iter::successors(Some(list.first).filter(is_there), |slot| {
            Some(links.after(*slot)).filter(is_there)
        })
        .collect()
    }

    #[test]
    fn members_leave_from_anywhere() {
        let mut links = Links::default();
        let mut list = List::EMPTY;
        for slot in 0..5 {
            links.grow();
            links.push(&mut list, slot);
        }
        links.remove(&mut list, 2);
        links.remove(&mut list, 0);
        links.remove(&mut list, 4);
        assert_eq!(members(&links, list), [1, 3]);
        links.push(&mut list, 2);
        assert_eq!(members(&links, list), [1, 3, 2]);
        for slot in [3, 2, 1] {
            links.remove(&mut list, slot);
        }
        assert!(list.is_empty());
        links.push(&mut list, 0);
        assert_eq!(members(&links, list), [0]);
    }
}

//! The two states of a [`CrashImage`](super::CrashImage).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use super::super::faults::Faults;

/// A disk fails or keeps sectors of this size as a whole.
const SECTOR: usize = 512;

#[derive(Default)]
pub(super) struct State {
    pub(super) inodes: HashMap<u64, Inode>,
    pub(super) next_inode: u64,
    pub(super) names: Names,
    pub(super) durable_names: Names,
    /// Changes of names that no sync has covered, in their order.
    pub(super) changes: Vec<Change>,
    pub(super) locked: HashSet<u64>,
    pub(super) faults: Faults,
    /// Grows with each change, so that later files are newer.
    pub(super) ticks: u64,
}

pub(super) type Names = BTreeMap<PathBuf, Node>;
/// One step that happens wholly or not at all.
pub(super) type Change = Vec<(PathBuf, Option<Node>)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
    Link(PathBuf),
}

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) dirty: Vec<Range<usize>>,
    pub(super) modified: u64,
}

impl State {
    pub(super) fn after_kill(&self) -> Self {
        Self {
            inodes: self.inodes.clone(),
            next_inode: self.next_inode,
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            changes: self.changes.clone(),
            ticks: self.ticks,
            ..Self::default()
        }
    }

    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut after = Self {
            next_inode: self.next_inode,
            ticks: self.ticks,
            names: self.durable_names.clone(),
            ..Self::default()
        };
        let kept = random.up_to(self.changes.len());
        for change in &self.changes[..kept] {
            apply(&mut after.names, change);
        }
        let names = after.names.clone();
        after
            .names
            .retain(|path, _| path.ancestors().skip(1).all(|dir| names.get(dir) == Some(&Node::Dir)));
        let mut inodes: Vec<_> = self.inodes.iter().collect();
        inodes.sort_by_key(|(number, _)| **number);
        for (number, inode) in inodes {
            let content = inode.after_power_loss(&mut random);
            let inode = Inode {
                durable: content.clone(),
                live: content,
                dirty: Vec::new(),
                modified: inode.modified,
            };
            after.inodes.insert(*number, inode);
        }
        after.durable_names = after.names.clone();
        after
    }

    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
        self.ticks += 1;
    }

    pub(super) fn used(&self) -> u64 {
        let named: HashSet<u64> = self
            .names
            .values()
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                _ => None,
            })
            .collect();
        let sizes = self.inodes.iter().filter(|(number, _)| named.contains(number));
        sizes.map(|(_, inode)| inode.live.len() as u64).sum()
    }

    pub(super) fn has_dir(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|dir| self.names.get(dir)) {
            Some(Node::Dir) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn new_file(&mut self, path: &Path) -> (u64, Change) {
        self.next_inode += 1;
        let inode = self.next_inode;
        let modified = self.ticks;
        self.inodes.insert(
            inode,
            Inode {
                modified,
                ..Inode::default()
            },
        );
        (inode, vec![(path.to_owned(), Some(Node::File(inode)))])
    }
}

impl Inode {
    fn after_power_loss(&self, random: &mut Random) -> Vec<u8> {
        let mut content = self.durable.clone();
        let whole = random.0 == 1;
        let sectors: BTreeSet<usize> = self
            .dirty
            .iter()
            .flat_map(|range| range.start / SECTOR..range.end.div_ceil(SECTOR))
            .collect();
        for sector in sectors {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.live.len());
            if start < end && (whole || random.flip()) {
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[start..end].copy_from_slice(&self.live[start..end]);
            }
        }
        if self.live.len() < content.len() && random.flip() {
            content.truncate(self.live.len());
        }
        content
    }

    pub(super) fn sync(&mut self) {
        for range in std::mem::take(&mut self.dirty) {
            let end = range.end.min(self.live.len());
            if range.start >= end {
                continue;
            }
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            self.durable[range.start..end].copy_from_slice(&self.live[range.start..end]);
        }
        self.durable.truncate(self.live.len());
    }
}

pub(super) fn apply(names: &mut Names, change: &Change) {
    for (path, node) in change {
        match node {
            Some(node) => names.insert(path.clone(), node.clone()),
            None => names.remove(path),
        };
    }
}

/// SplitMix64; the seeds 0 and 1 are the extremes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn flip(&mut self) -> bool {
        self.0 > 1 && self.next() & 1 == 1
    }

    fn up_to(&mut self, most: usize) -> usize {
        match self.0 {
            0 => 0,
            1 => most,
            _ => usize::try_from(self.next() % (most as u64 + 1)).unwrap_or(0),
        }
    }
}

//! Many numbers that mostly follow each other.
#![cfg_attr(
    all(not(feature = "jetstream"), not(test)),
    expect(dead_code, reason = "streams are compared with it")
)]

/// Numbers in order, as runs without a hole: first and last of each.
///
/// Memory: 16 bytes for each run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    runs: Vec<(u64, u64)>,
}

impl Runs {
    /// Adds a number. One that is not above the last is left out: it is there, or out of order, which others tell of.
    pub(crate) fn push(&mut self, number: u64) {
        self.push_run(number, number);
    }

    /// Adds all from `first` to `last`.
    pub(crate) fn push_run(&mut self, first: u64, last: u64) {
        match self.runs.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ if first > last => {}
            _ => self.runs.push((first, last)),
        }
    }

    /// Those of many, which may overlap, in any order.
    pub(crate) fn of(mut runs: Vec<(u64, u64)>) -> Self {
        runs.sort_unstable();
        let mut all = Self::default();
        for (first, last) in runs {
            all.push_run(first, last);
        }
        all
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The lowest and the highest number.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        Some((self.runs.first()?.0, self.runs.last()?.1))
    }

    /// How many numbers there are.
    pub(crate) fn len(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many there are from `from` to `to`.
    pub(crate) fn len_within(&self, from: u64, to: u64) -> u64 {
        let start = self.runs.partition_point(|(_, last)| *last < from);
        let runs = self.runs[start..].iter().take_while(|(first, _)| *first <= to);
        runs.map(|(first, last)| to.min(*last) - from.max(*first) + 1).sum()
    }

    /// Those that `others` does not have.
    pub(crate) fn without(&self, others: &Self) -> Self {
        let mut left = Self::default();
        let mut at = 0;
        for (mut first, last) in self.iter() {
            while let Some((begin, end)) = others.runs.get(at).copied().filter(|(begin, _)| *begin <= last) {
                if begin > first {
                    left.push_run(first, begin - 1);
                }
                first = first.max(end.saturating_add(1));
                if end > last {
                    // It may reach into the next run.
                    break;
                }
                at += 1;
            }
            if first <= last {
                left.push_run(first, last);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(numbers: impl IntoIterator<Item = u64>) -> Runs {
        let mut runs = Runs::default();
        numbers.into_iter().for_each(|number| runs.push(number));
        runs
    }

    /// Which of 1 to 12 a number has as its bits.
    fn bits(bits: u32) -> impl Iterator<Item = u64> + Clone {
        (0..12).filter(move |bit| bits >> bit & 1 == 1).map(|bit| bit + 1)
    }

    #[test]
    fn runs_are_joined() {
        assert_eq!(runs([3, 4, 4, 5, 9]).iter().collect::<Vec<_>>(), [(3, 5), (9, 9)]);
        let all = Runs::of(vec![(7, 8), (1, 3), (2, 5), (6, 6)]);
        assert_eq!(all.iter().collect::<Vec<_>>(), [(1, 8)]);
    }

    #[test]
    fn what_others_have_is_taken_away() {
        // Steps that share no factor with 4096: many pairs of all kinds.
        for step in 0..4096_u32 {
            let (one, other) = (step * 2731 % 4096, (step * 1777 % 4096) ^ 0x5a5);
            let left = runs(bits(one)).without(&runs(bits(other)));
            assert_eq!(left, runs(bits(one & !other)), "{one:b} without {other:b}");
            assert_eq!(left.len(), u64::from((one & !other).count_ones()));
            let within = bits(one).filter(|number| (3..=8).contains(number)).count();
            assert_eq!(runs(bits(one)).len_within(3, 8), within as u64, "{one:b}");
        }
    }
}

//! Which of a dense range of numbers were seen: one bit each, so that a hundred million lines fit in 12 MB.

#[derive(Debug, Default, Clone)]
pub(crate) struct BitSet {
    words: Vec<u64>,
    ones: u64,
}

impl BitSet {
    /// False when `n` was there already.
    pub(crate) fn insert(&mut self, n: u64) -> bool {
        let (word, bit) = (word_of(n), 1 << (n % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.ones += u64::from(new);
        new
    }

    pub(crate) fn contains(&self, n: u64) -> bool {
        self.words.get(word_of(n)).is_some_and(|word| word & (1 << (n % 64)) != 0)
    }

    pub(crate) fn len(&self) -> u64 {
        self.ones
    }

    /// The members below `end`.
    pub(crate) fn count_below(&self, end: u64) -> u64 {
        let whole = word_of(end).min(self.words.len());
        let full: u64 = self.words[..whole].iter().map(|word| u64::from(word.count_ones())).sum();
        let rest = self.words.get(whole).filter(|_| !end.is_multiple_of(64));
        full + rest.map_or(0, |word| u64::from((word & ((1 << (end % 64)) - 1)).count_ones()))
    }

    /// The inclusive ranges of what is missing below `end`.
    pub(crate) fn gaps(&self, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut n = 0;
        while n < end {
            match self.words.get(word_of(n)) {
                Some(&u64::MAX) if n.is_multiple_of(64) => n += 64,
                _ if self.contains(n) => n += 1,
                _ => {
                    let first = n;
                    while n < end && !self.contains(n) {
                        n += 1;
                    }
                    gaps.push((first, n - 1));
                }
            }
        }
        gaps
    }
}

fn word_of(n: u64) -> usize {
    usize::try_from(n / 64).expect("sequence numbers fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let mut set = BitSet::default();
        for n in (0..200).filter(|n| ![0, 63, 64, 130].contains(n)) {
            assert!(set.insert(n));
        }
        assert!(!set.insert(5));
        assert_eq!(set.len(), 196);
        assert_eq!(set.gaps(202), [(0, 0), (63, 64), (130, 130), (200, 201)]);
        assert_eq!(set.count_below(64), 62);
        assert_eq!(set.count_below(131), 127);
        assert_eq!(set.count_below(10_000), 196);
    }
}

//! How many bytes of the log lie from an index on, about.
//!
//! Samples of (index, bytes below it) are kept; between two of them bytes are taken to be spread
//! evenly. When there are too many, every second one goes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

const MAX_SAMPLES: usize = 2048;

#[derive(Debug)]
pub(super) struct Sizes {
    samples: Mutex<VecDeque<(u64, u64)>>,
}

impl Sizes {
    /// For a log that holds `oldest..next` in `bytes`.
    pub(super) fn new(oldest: u64, next: u64, bytes: u64) -> Self {
        Self { samples: Mutex::new(VecDeque::from([(oldest, 0), (next, bytes)])) }
    }

    /// `bytes` more were stored; the next index is now `next`.
    pub(super) fn grow(&self, next: u64, bytes: u64) {
        let mut samples = self.samples();
        let total = samples.back().map_or(0, |last| last.1) + bytes;
        samples.push_back((next, total));
        if samples.len() > MAX_SAMPLES {
            let last = samples.len() - 1;
            let mut at = 0;
            samples.retain(|_| {
                at += 1;
                at % 2 == 1 || at == last + 1
            });
        }
    }

    /// Nobody asks for indexes below `index` any more.
    pub(super) fn forget_below(&self, index: u64) {
        let mut samples = self.samples();
        while samples.len() > 1 && samples.get(1).is_some_and(|sample| sample.0 <= index) {
            samples.pop_front();
        }
    }

    /// Bytes of the records from `index` on.
    pub(super) fn from(&self, index: u64) -> u64 {
        let samples = self.samples();
        let total = samples.back().map_or(0, |last| last.1);
        let after = samples.partition_point(|sample| sample.0 <= index);
        let (Some(&low), Some(&high)) = (samples.get(after.saturating_sub(1)), samples.get(after)) else { return 0 };
        if index <= low.0 {
            return total - low.1;
        }
        let share = u128::from(high.1 - low.1) * u128::from(index - low.0) / u128::from(high.0 - low.0);
        total - low.1 - u64::try_from(share).unwrap_or(0)
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.samples.lock().expect("no code panics while it holds the samples")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_from_an_index_are_exact_at_samples_and_even_between() {
        let sizes = Sizes::new(10, 20, 1000);
        assert_eq!(sizes.from(0), 1000);
        assert_eq!(sizes.from(10), 1000);
        assert_eq!(sizes.from(15), 500);
        sizes.grow(30, 100);
        assert_eq!((sizes.from(20), sizes.from(25), sizes.from(30), sizes.from(99)), (100, 50, 0, 0));
        sizes.forget_below(20);
        assert_eq!((sizes.from(20), sizes.from(30)), (100, 0));
    }

    #[test]
    fn samples_are_bounded_and_keep_the_total() {
        let sizes = Sizes::new(0, 0, 0);
        for index in 1..=100_000 {
            sizes.grow(index, 7);
        }
        assert!(sizes.samples().len() <= MAX_SAMPLES);
        assert_eq!(sizes.from(0), 700_000);
        assert_eq!(sizes.from(100_000), 0);
        assert!(sizes.from(99_990) <= 700);
    }
}

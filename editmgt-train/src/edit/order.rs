use crate::run::Draws;

/// The order of a run through a data set: every example once per epoch, each epoch in another
/// random order.
#[derive(Debug, Clone)]
pub struct Order {
    draws: Draws,
    len: u64,
    /// The epoch of `shuffled`.
    epoch: u64,
    shuffled: Vec<u64>,
}

impl Order {
    /// An order of `len` examples, 1 or more; a pure function of the draws.
    pub fn new(draws: Draws, len: u64) -> Self {
        let mut order = Self { draws, len, epoch: 0, shuffled: Vec::new() };
        order.shuffle(0);
        order
    }

    /// The example index of sample `sample` of the run, counted from 0.
    pub fn at(&mut self, sample: u64) -> u64 {
        let epoch = sample / self.len;
        if epoch != self.epoch {
            self.shuffle(epoch);
        }
        self.shuffled[(sample % self.len) as usize]
    }

    fn shuffle(&mut self, epoch: u64) {
        let mut stream = self.draws.stream("edit order", epoch);
        self.epoch = epoch;
        self.shuffled = (0..self.len).collect();
        // Fisher and Yates.
        for last in (1..self.shuffled.len()).rev() {
            self.shuffled.swap(last, stream.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_has_every_example_once_from_any_start() {
        let mut order = Order::new(Draws::new(4), 7);
        let two: Vec<u64> = (0..14).map(|sample| order.at(sample)).collect();
        for epoch in two.chunks(7) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert_ne!(two[..7], two[7..]);
        let mut resumed = Order::new(Draws::new(4), 7);
        for sample in [9, 3, 13] {
            assert_eq!(resumed.at(sample), two[sample as usize]);
        }
    }
}

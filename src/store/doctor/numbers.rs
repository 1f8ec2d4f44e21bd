//! Sequence numbers that were seen, a bit each.
//!
//! Must stay true: memory follows what is there, not what a damaged number claims. Not here: whose
//! numbers they are.

use std::collections::HashMap;

const BITS_OF_A_PAGE: u64 = 1 << 16;
const WORDS_OF_A_PAGE: usize = (BITS_OF_A_PAGE / 64) as usize;

/// A set of numbers, dense or not.
#[derive(Default)]
pub struct Numbers {
    pages: HashMap<u64, Box<[u64; WORDS_OF_A_PAGE]>>,
    pub count: u64,
    pub largest: u64,
}

impl Numbers {
    /// False when the number was there already.
    pub fn insert(&mut self, number: u64) -> bool {
        let page = self.pages.entry(number / BITS_OF_A_PAGE);
        let words = page.or_insert_with(|| Box::new([0; WORDS_OF_A_PAGE]));
        let within = number % BITS_OF_A_PAGE;
        let (word, bit) = (&mut words[(within / 64) as usize], 1 << (within % 64));
        let new = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(new);
        self.largest = self.largest.max(number);
        new
    }
}

#[test]
fn a_number_is_new_once() {
    let mut numbers = Numbers::default();
    for number in [0, 63, 64, BITS_OF_A_PAGE, u64::MAX] {
        assert!(numbers.insert(number));
        assert!(!numbers.insert(number));
    }
    assert_eq!((numbers.count, numbers.largest), (5, u64::MAX));
}

//! What arrived of one run of numbered flights: what is missing, what came twice, and whether each
//! airport's flights came in order.

use std::collections::HashMap;

use crate::flights::NumberedFlight;

/// An account of the flights of one run, in the order in which they were seen.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    times_seen: Vec<u32>,
    /// The highest number seen of each origin.
    highest: HashMap<String, u32>,
    distinct: usize,
    duplicated: u64,
    out_of_order: u64,
}

impl Arrivals {
    /// Notes one flight. Returns whether it is the first time.
    ///
    /// What counts for the order of an origin is when each flight was seen first: a repetition is
    /// counted, but it is not out of order.
    pub fn see(&mut self, flight: &NumberedFlight) -> bool {
        let id = flight.id as usize;
        if self.times_seen.len() <= id {
            self.times_seen.resize(id + 1, 0);
        }
        self.times_seen[id] += 1;
        if self.times_seen[id] > 1 {
            self.duplicated += 1;
            return false;
        }
        self.distinct += 1;
        let origin = &flight.flight.origin;
        match self.highest.get_mut(origin) {
            Some(highest) if flight.nth < *highest => self.out_of_order += 1,
            Some(highest) => *highest = flight.nth,
            None => {
                self.highest.insert(origin.clone(), flight.nth);
            }
        }
        true
    }

    /// How many different flights were seen.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.distinct
    }

    /// How many of the first `sent` flights of the run were never seen.
    #[must_use]
    pub fn lost(&self, sent: usize) -> usize {
        let seen = self
            .times_seen
            .iter()
            .take(sent)
            .filter(|times| **times > 0);
        sent - seen.count()
    }

    /// How many times a flight was seen that had been seen before.
    #[must_use]
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// How many flights were seen for the first time after a later one of the same origin.
    #[must_use]
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flights::numbered;

    #[test]
    fn what_arrives_once_and_in_order_is_without_fault() {
        let mut arrivals = Arrivals::default();
        for flight in numbered(1, 1000) {
            assert!(arrivals.see(&flight));
        }
        assert_eq!(arrivals.distinct(), 1000);
        assert_eq!(
            (
                arrivals.lost(1000),
                arrivals.duplicated(),
                arrivals.out_of_order()
            ),
            (0, 0, 0)
        );
        assert_eq!(arrivals.lost(1005), 5);
    }

    #[test]
    fn a_repetition_is_no_disorder_and_a_late_first_arrival_is() {
        let atlanta: Vec<_> = numbered(1, 2000)
            .into_iter()
            .filter(|flight| flight.flight.origin == "ATL")
            .collect();
        let mut arrivals = Arrivals::default();
        for nth in [0, 1, 0, 1, 2, 4, 3, 3] {
            arrivals.see(&atlanta[nth]);
        }
        assert_eq!((arrivals.duplicated(), arrivals.out_of_order()), (3, 1));
    }
}

//! The one source of chance.
//!
//! Clones share one generator, so a component given a seeded [`Rand`] repeats its choices as long
//! as it asks in the same order; [`Rand::fork`] gives a part of its own to a task whose order of
//! asking is not fixed. Not for secrets.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the seam that the lint points to"
)]

use std::sync::{Arc, Mutex, PoisonError};

/// A generator of pseudo-random numbers. Cheap to clone, shared by its clones, thread-safe.
#[derive(Clone, Debug)]
pub struct Rand {
    generator: Arc<Mutex<fastrand::Rng>>,
}

impl Rand {
    /// A generator that repeats itself for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            generator: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
        }
    }

    /// A generator seeded from the machine.
    #[must_use]
    pub fn from_entropy() -> Self {
        Self {
            generator: Arc::new(Mutex::new(fastrand::Rng::new())),
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        // The generator is whole whatever panicked while it was borrowed.
        ask(&mut self
            .generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// A uniform 64-bit number.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        self.with(|generator| generator.u64(..))
    }

    /// A uniform number in `0..bound`; 0 if `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.with(|generator| generator.u64(..bound))
        }
    }

    /// A uniform number in `[0, 1)`.
    #[must_use]
    pub fn unit(&self) -> f64 {
        self.with(fastrand::Rng::f64)
    }

    /// A generator of its own whose numbers follow from this one's.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            generator: Arc::new(Mutex::new(self.with(fastrand::Rng::fork))),
        }
    }

    /// Brings `items` into a uniformly chosen order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        self.with(|generator| generator.shuffle(items));
    }

    /// A version 4 UUID in its usual text form, 36 characters.
    #[must_use]
    pub fn uuid(&self) -> String {
        let bits = self.with(|generator| generator.u128(..));
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ]
        .join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_forks() {
        let (a, b) = (Rand::seeded(7), Rand::seeded(7));
        let ask = |rand: &Rand| {
            let fork = rand.fork();
            (
                rand.next_u64(),
                rand.below(10),
                rand.uuid(),
                fork.next_u64(),
                rand.next_u64(),
            )
        };
        assert_eq!(ask(&a), ask(&b));
        assert_ne!(a.next_u64(), a.next_u64());
        assert_eq!(a.below(0), 0);
    }

    #[test]
    fn a_uuid_has_the_form_of_version_4() {
        let uuid = Rand::seeded(1).uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    }
}

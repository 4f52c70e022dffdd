//! The simulated fleet keeps its promises, and a seed has one history.
//!
//! More seeds: `cargo run --release -p tests --bin simulate -- --seeds 1000`.

use tests::simulation::sweep::Role;
use tests::simulation::{Played, run, run_sweep};

/// Seeds, everyday and with the feature `slow`. Source: none; each takes some seconds in a debug build.
const SEEDS: std::ops::Range<u64> = if cfg!(feature = "slow") { 0..4 } else { 0..1 };

/// Of the points of a sweep one of so many, likewise; the first of each kind is one of them. Source: as above.
const EVERY: usize = if cfg!(feature = "slow") { 97 } else { 997 };

fn play(seed: u64) -> Played {
    println!("seed {seed}");
    let played = run(seed);
    let violations = &played.violations;
    assert!(
        violations.is_empty(),
        "seed {seed} breaks a rule at {}; `cargo run -p tests --bin simulate -- --seed {seed}` prints its log",
        violations[0]
    );
    played
}

#[test]
fn whatever_happens_to_a_fleet_its_promises_hold() {
    for seed in SEEDS {
        play(seed);
    }
}

/// All points: `cargo run --release -p tests --bin simulate -- --sweep`.
#[test]
fn wherever_a_worker_crashes_in_a_handoff_a_reshard_or_a_stop_the_promises_hold() {
    let seed = 1;
    let (whole, [first, second]) = run_sweep(seed, None);
    assert_eq!(whole.violations, [], "without a crash");
    let mut crashes = first.crashes(Role::First, EVERY);
    crashes.extend(second.crashes(Role::Second, EVERY));
    assert!(
        crashes.len() >= 6,
        "before, behind, at a poll, of either: {crashes:?}"
    );
    for crash in crashes {
        let (played, _) = run_sweep(seed, Some(crash));
        let crashed = played.text().contains("crashes");
        assert!(crashed, "{crash:?} does not come to pass");
        assert_eq!(played.violations, [], "story {seed} with {crash:?}");
    }
}

#[test]
fn a_seed_has_one_history() {
    let first = play(1).text();
    // What came before leaves nothing behind, be it another one.
    if cfg!(feature = "slow") {
        run(2);
    }
    let second = run(1).text();
    assert!(!first.is_empty());
    let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(first, second);
}

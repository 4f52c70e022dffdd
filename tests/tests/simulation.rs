//! The simulated fleet keeps its promises, and a seed has one history.
//!
//! More seeds: `cargo run --release -p tests --bin simulate -- --seeds 1000`.

use tests::simulation::{Played, run};

/// Everyday seeds. Source: none; a few seconds each way.
const SEEDS: std::ops::Range<u64> = 0..4;

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

#[test]
fn a_seed_has_one_history() {
    let first = run(1).text();
    // Another one between them leaves nothing behind.
    run(2);
    let second = run(1).text();
    assert!(!first.is_empty());
    let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(first, second);
}

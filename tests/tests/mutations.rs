//! The simulation finds what would be wrong: consumers with one defect each break a rule within a
//! thousand seeds. Run with `--features tests/mutations`.

use kinesis_consumer::mutation::Mutation;
use tests::simulation::rules::Rule;
use tests::simulation::{run, run_mutated};

/// How many seeds may be needed. Source: the project's own demand.
const SEEDS: u64 = 1_000;

/// The first seed with which the defect breaks this rule.
fn found(mutation: Mutation, rule: Rule) {
    for seed in 0..SEEDS {
        let played = run_mutated(seed, mutation);
        let broken = played.violations.iter().find(|broken| broken.rule == rule);
        if let Some(broken) = broken {
            assert_eq!(run(seed).violations, [], "without the defect, seed {seed}");
            println!("{mutation:?} is found by seed {seed} at {broken}");
            return;
        }
    }
    panic!("{mutation:?} does not break {rule:?} in {SEEDS} seeds");
}

#[test]
fn a_leader_that_nobody_replaces_is_found() {
    found(Mutation::NoLeaderReplacement, Rule::Stuck);
}

#[test]
fn a_handoff_that_leaves_the_checkpoint_owner_is_found() {
    found(Mutation::HandoffLeavesCheckpointOwner, Rule::Slow);
}

#[test]
fn a_renewal_that_waits_for_the_processor_is_found() {
    found(Mutation::RenewalWaitsForProcessor, Rule::Shaken);
}

#[test]
fn a_checkpoint_without_the_condition_on_the_counter_is_found() {
    found(Mutation::CheckpointWithoutCounter, Rule::Back);
}

#[test]
fn keys_that_are_out_of_order_are_found() {
    found(Mutation::KeysOutOfOrder, Rule::Order);
}

#[test]
fn a_watermark_that_passes_what_is_not_done_is_found() {
    found(Mutation::WatermarkPassesUndone, Rule::Lost);
}

#[test]
fn a_checkpoint_that_leaves_what_was_prepared_is_found() {
    found(Mutation::CheckpointLeavesPending, Rule::Pending);
}

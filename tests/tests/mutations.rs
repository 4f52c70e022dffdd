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

#[test]
fn a_checkpoint_within_an_aggregate_that_is_not_stored_is_found() {
    found(Mutation::AggregateCountsAsOne, Rule::Unsaid);
}

#[test]
fn a_leader_whose_beats_nobody_notices_is_found() {
    found(Mutation::BeatsUnnoticed, Rule::Deposed);
}

#[test]
fn a_leader_that_gives_the_lock_back_too_soon_is_found() {
    found(Mutation::ResignsAtOnce, Rule::Deposed);
}

#[test]
fn children_that_are_read_from_before_the_start_are_found() {
    found(Mutation::ChildrenFromBeginning, Rule::Start);
}

#[test]
fn a_lost_lease_that_comes_back_at_the_newest_record_is_found() {
    found(Mutation::MissedLeaseStartsNow, Rule::Start);
}

#[test]
fn a_reset_to_another_instant_than_was_asked_for_is_found() {
    found(Mutation::ResetStartsNow, Rule::Start);
}

#[test]
fn a_dead_letter_that_is_not_stored_is_found() {
    found(Mutation::LetterNotStored, Rule::Lost);
}

#[test]
fn a_shard_that_stopped_and_goes_on_is_found() {
    found(Mutation::StoppedGoesOn, Rule::Stopped);
}

#[test]
fn leases_that_are_moved_for_ever_are_found() {
    found(Mutation::EvensOutForEver, Rule::Restless);
}

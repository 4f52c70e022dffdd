use kinesis_core::Position;
use proptest::prelude::*;

use super::*;

const NO_LIMITS: Limits = Limits {
    leases: usize::MAX,
    handoffs: usize::MAX,
};

fn lease(index: u64, owner: Option<&str>) -> Lease {
    Lease {
        owner: owner.map(str::to_owned),
        ..Lease::new(ShardId::from_index(index), Position::TrimHorizon)
    }
}

fn candidate<'a>(lease: &'a Lease, me: &str) -> Candidate<'a> {
    Candidate {
        lease,
        standing: if lease.owner.is_some() {
            Standing::Active
        } else {
            Standing::Unowned
        },
        unwanted: false,
        held: lease.owner.as_deref() == Some(me) && !lease.is_in_handoff(),
        owner_leaving: false,
        resting: false,
        barred: false,
    }
}

fn plan_of(me: &str, candidates: &[Candidate<'_>]) -> Plan {
    plan(me, candidates, NO_LIMITS, &Rand::seeded(1))
}

fn leases(owners: &[Option<&str>]) -> Vec<Lease> {
    owners
        .iter()
        .zip(0..)
        .map(|(owner, index)| lease(index, *owner))
        .collect()
}

#[test]
fn a_worker_alone_takes_everything() {
    let rows = leases(&[None; 5]);
    let candidates: Vec<_> = rows.iter().map(|row| candidate(row, "me")).collect();
    let plan = plan_of("me", &candidates);
    assert_eq!((plan.take.len(), plan.workers), (5, 1));
}

#[test]
fn a_worker_takes_free_leases_up_to_its_share_unowned_ones_first() {
    let rows = leases(&[Some("a"), Some("a"), Some("dead"), None, None, None]);
    let mut candidates: Vec<_> = rows.iter().map(|row| candidate(row, "me")).collect();
    candidates[2].standing = Standing::Expired;
    let plan = plan_of("me", &candidates);
    assert_eq!((plan.take.len(), plan.workers), (3, 2));
    assert!(!plan.take.contains(&ShardId::from_index(2)));
    assert!(plan.hand_over.is_empty(), "free ones first");
}

#[test]
fn what_is_given_to_this_worker_is_taken_whatever_its_share() {
    let mut rows = leases(&[Some("me"), Some("a"), Some("me")]);
    rows.push(Lease {
        checkpoint_owner: Some("a".to_owned()),
        ..lease(3, Some("me"))
    });
    let mut candidates: Vec<_> = rows.iter().map(|row| candidate(row, "me")).collect();
    candidates[2] = Candidate {
        standing: Standing::Assigned,
        held: false,
        ..candidates[2]
    };
    candidates[3].standing = Standing::Overdue;
    assert_eq!(
        plan_of("me", &candidates).take,
        [ShardId::from_index(2), ShardId::from_index(3)]
    );
}

#[test]
fn the_leases_of_a_leaving_worker_are_not_left_to_it() {
    let rows = leases(&[Some("me"), Some("me"), Some("a"), None]);
    let mut candidates: Vec<_> = rows.iter().map(|row| candidate(row, "me")).collect();
    assert_eq!(plan_of("me", &candidates).take, [], "a's share");
    candidates[2].owner_leaving = true;
    assert_eq!(plan_of("me", &candidates).take, [ShardId::from_index(3)]);
}

#[test]
fn an_unwanted_lease_is_taken_beyond_the_share_but_not_beyond_the_limit() {
    let rows = leases(&[Some("me"), Some("me"), Some("a"), None]);
    let mut candidates: Vec<_> = rows.iter().map(|row| candidate(row, "me")).collect();
    candidates[3].unwanted = true;
    assert_eq!(plan_of("me", &candidates).take, [ShardId::from_index(3)]);
    let limits = Limits {
        leases: 2,
        handoffs: 8,
    };
    assert_eq!(plan("me", &candidates, limits, &Rand::seeded(1)).take, []);
}

#[test]
fn a_lease_that_was_just_given_back_is_left_to_others() {
    let rows = leases(&[None]);
    let resting = Candidate {
        resting: true,
        ..candidate(&rows[0], "me")
    };
    assert_eq!(plan_of("me", &[resting]).take, []);
}

#[test]
fn a_new_worker_asks_the_fullest_ones_for_its_share_within_its_limit() {
    let rows = leases(&[
        Some("a"),
        Some("a"),
        Some("a"),
        Some("a"),
        Some("b"),
        Some("b"),
    ]);
    let candidates: Vec<_> = rows.iter().map(|row| candidate(row, "me")).collect();
    let asked = plan_of("me", &candidates).hand_over;
    assert_eq!(asked, [ShardId::from_index(3), ShardId::from_index(2)]);
    let limits = Limits {
        leases: usize::MAX,
        handoffs: 1,
    };
    assert_eq!(
        plan("me", &candidates, limits, &Rand::seeded(1))
            .hand_over
            .len(),
        1
    );
}

#[test]
fn a_handoff_under_way_counts_for_its_next_owner_and_is_not_asked_for_again() {
    let mut rows = leases(&[Some("a"), Some("a"), Some("a"), Some("a")]);
    for row in &mut rows[2..] {
        *row = Lease {
            owner: Some("me".to_owned()),
            checkpoint_owner: Some("a".to_owned()),
            ..row.clone()
        };
    }
    let candidates: Vec<_> = rows.iter().map(|row| candidate(row, "me")).collect();
    assert_eq!(
        plan_of("me", &candidates),
        Plan {
            workers: 2,
            ..Plan::default()
        }
    );
}

#[test]
fn a_barred_lease_is_not_taken_whoever_it_was_given_to() {
    let rows = leases(&[None, Some("me")]);
    let mut candidates: Vec<_> = rows.iter().map(|row| candidate(row, "me")).collect();
    candidates[0].barred = true;
    candidates[1] = Candidate {
        standing: Standing::Assigned,
        held: false,
        barred: true,
        ..candidates[1]
    };
    assert_eq!(plan_of("me", &candidates).take, []);
    candidates[1] = Candidate {
        barred: false,
        resting: true,
        ..candidates[1]
    };
    assert_eq!(plan_of("me", &candidates).take, [ShardId::from_index(1)]);
}

proptest! {
    /// However leases lie, rounds of all workers in turn end with loads that differ by one at most,
    /// and then nothing moves any more.
    #[test]
    fn handoffs_even_out_and_then_stop(
        owners in proptest::collection::vec(0usize..6, 1..40),
        order in proptest::collection::vec(0usize..6, 60),
        hands in 1usize..5,
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut rows: Vec<_> = owners.iter().zip(0..).map(|(o, i)| lease(i, Some(names[*o]))).collect();
        let limits = Limits { leases: usize::MAX, handoffs: hands };
        let mut moved = 0;
        let turns = order.into_iter().chain((0..6).cycle().take(300));
        for turn in turns {
            let me = names[turn];
            let candidates: Vec<_> = rows.iter().map(|row| candidate(row, me)).collect();
            let asked = plan(me, &candidates, limits, &Rand::seeded(0)).hand_over;
            moved += asked.len();
            for row in rows.iter_mut().filter(|row| asked.contains(&row.shard_id)) {
                prop_assert!(row.owner.as_deref() != Some(me));
                row.owner = Some(me.to_owned());
            }
        }
        let load = |name: &str| rows.iter().filter(|row| row.owner.as_deref() == Some(name)).count();
        let loads: Vec<_> = names.iter().map(|name| load(name)).collect();
        let spread = loads.iter().max().expect("six") - loads.iter().min().expect("six");
        prop_assert!(spread <= 1, "{:?}", loads);
        prop_assert!(moved <= owners.len(), "{} moves for {} leases", moved, owners.len());
    }

    /// Workers that all act on the same view ask for each lease at most once.
    #[test]
    fn workers_with_the_same_view_never_ask_for_the_same_lease(
        owners in proptest::collection::vec(0usize..5, 1..40),
    ) {
        let names = ["a", "b", "c", "d", "e"];
        let rows: Vec<_> = owners.iter().zip(0..).map(|(o, i)| lease(i, Some(names[*o]))).collect();
        let present: Vec<_> = names.iter().filter(|n| rows.iter().any(|r| r.owner.as_deref() == Some(n))).collect();
        let mut asked = Vec::new();
        for me in present {
            let candidates: Vec<_> = rows.iter().map(|row| candidate(row, me)).collect();
            asked.extend(plan(me, &candidates, NO_LIMITS, &Rand::seeded(0)).hand_over);
        }
        let all = asked.len();
        asked.sort();
        asked.dedup();
        prop_assert_eq!(asked.len(), all);
    }
}

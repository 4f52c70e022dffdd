//! Workers that are unlike: their machines, what they may rise to, what they tell.

use super::*;

/// So many leases of 10 KB/s, held by these workers in turn.
fn held(leases: u64, by: &[&str]) -> Vec<Lease> {
    let held = |index| Lease {
        throughput: Throughput::of_kbps(10.0),
        ..lease(index, Some(by[index as usize % by.len()]))
    };
    (0..leases).map(held).collect()
}

/// Workers with a reading of the CPU, if any, and what it may rise to.
fn telling(workers: &[(&str, Option<f64>, u64)]) -> Vec<WorkerStats> {
    let of = |(name, cpu, range): &(&str, Option<f64>, u64)| {
        let mut stats = member(name);
        if cpu.is_some() {
            stats.record("C", *cpu, *range);
        }
        stats
    };
    workers.iter().map(of).collect()
}

fn moves(leases: &[Lease], members: &[WorkerStats]) -> Vec<(String, String)> {
    let candidates: Vec<_> = leases.iter().map(candidate).collect();
    let plan = plan_of(&candidates, members, by_utilization());
    let from = |id: &ShardId| {
        let row = leases.iter().find(|lease| lease.shard_id == *id);
        row.and_then(|row| row.owner.clone()).unwrap_or_default()
    };
    let all = plan.assign.into_iter().chain(plan.hand_over);
    all.map(|(id, to)| (from(&id), to)).collect()
}

#[test]
fn machines_come_to_rest_however_much_more_a_lease_costs_one_than_another() {
    for seed in 0..20 {
        let rand = Rand::seeded(seed);
        let workers = 20;
        let mut fleet = Machines::new(100, workers, &rand);
        // The weakest need ten times as much for a lease as the strongest, and have few.
        fleet.cost = (0..workers).map(|_| 0.1 + 0.9 * rand.unit()).collect();
        let mut reports: Vec<_> = fleet.names.iter().map(|name| member(name)).collect();
        let mut before = fleet.cpu();
        let (mut early, mut late) = (0, 0);
        for pass in 0..120 {
            // Two reports from one pass to the next, the first of which has half of what changed.
            let cpu = fleet.cpu();
            for ((report, before), now) in reports.iter_mut().zip(&before).zip(&cpu) {
                report.record("C", Some((before + now) / 2.0), 100);
                report.record("C", Some(*now), 100);
            }
            before = cpu;
            let candidates: Vec<_> = fleet.leases.iter().map(candidate).collect();
            let plan = plan(&candidates, &reports, by_utilization(), &rand);
            let moves = if pass < 60 { &mut early } else { &mut late };
            *moves += plan.hand_over.len();
            for (id, to) in plan.assign.iter().chain(&plan.hand_over) {
                let index = id.index().expect("a number") as usize;
                fleet.leases[index].owner = Some(to.clone());
            }
        }
        println!("seed {seed}: {early} moves in the first 60 passes, {late} in the next");
        assert!(early > 0, "seed {seed}");
        assert_eq!(late, 0, "seed {seed}");
    }
}

#[test]
fn a_worker_above_its_range_gives_to_others_that_are_busier_and_may_be() {
    let leases = held(60, &["a", "b", "low"]);
    let of_low = moves(
        &leases,
        &telling(&[
            ("a", Some(45.0), 100),
            ("b", Some(45.0), 100),
            ("low", Some(35.0), 30),
        ]),
    );
    assert_eq!(of_low.len(), 1, "{of_low:?}");
    assert!(of_low[0].0 == "low" && of_low[0].1 != "low", "{of_low:?}");
    // At its range it is at rest, though the others are busier.
    let at_rest = telling(&[
        ("a", Some(45.0), 100),
        ("b", Some(45.0), 100),
        ("low", Some(29.0), 30),
    ]);
    assert_eq!(moves(&leases, &at_rest), []);
    // Nobody has room by what they say: nothing is moved from one to the next.
    let full = telling(&[
        ("a", Some(45.0), 40),
        ("b", Some(45.0), 40),
        ("low", Some(35.0), 30),
    ]);
    assert_eq!(moves(&leases, &full), []);
}

#[test]
fn a_worker_above_its_range_is_relieved_though_a_lease_lifts_the_others_above_their_target() {
    let mut leases = held(36, &["a"]);
    for (at, lease) in leases.iter_mut().enumerate() {
        let owner = ["a", "b", "low"][at / 13];
        lease.owner = Some(owner.to_owned());
    }
    // 60 in all, of which low may have 15: the others' target is 22.5, and a lease is 1.7.
    let low_at = |low| {
        telling(&[
            ("a", Some(21.7), 100),
            ("b", Some(21.7), 100),
            ("low", Some(low), 15),
        ])
    };
    let of_low = moves(&leases, &low_at(16.7));
    assert_eq!(of_low.len(), 1, "{of_low:?}");
    assert_eq!(of_low[0].0, "low");
    assert_eq!(moves(&leases, &low_at(15.0)), []);
}

#[test]
fn a_worker_at_its_range_gets_no_free_lease_as_long_as_another_has_room() {
    let mut leases = held(20, &["a", "low"]);
    for lease in &mut leases[..4] {
        lease.owner = None;
    }
    let members = telling(&[("a", Some(60.0), 100), ("low", Some(30.0), 30)]);
    let to: Vec<_> = moves(&leases, &members);
    let given: Vec<_> = to.iter().filter(|(from, _)| from.is_empty()).collect();
    assert_eq!(given.len(), 4);
    assert!(given.iter().all(|(_, to)| to == "a"), "{given:?}");
}

#[test]
fn a_worker_without_readings_gets_as_if_its_machine_were_like_the_others_and_then_rests() {
    let told = [
        ("a", Some(60.0), 100),
        ("b", Some(60.0), 100),
        ("mute", None, 0),
    ];
    let members = telling(&told);
    let mut leases = held(30, &["a", "b"]);
    for pass in 0..20 {
        // The readings follow the leases: 4 % each.
        let count = |name: &str| {
            let owned = |lease: &&Lease| lease.owner.as_deref() == Some(name);
            leases.iter().filter(owned).count()
        };
        let cpu = |name| Some(4.0 * count(name) as f64);
        let told = [
            ("a", cpu("a"), 100),
            ("b", cpu("b"), 100),
            ("mute", None, 0),
        ];
        let candidates: Vec<_> = leases.iter().map(candidate).collect();
        let plan = plan_of(&candidates, &telling(&told), by_utilization());
        if pass >= 10 {
            assert_eq!(plan, Plan::default(), "pass {pass}");
        }
        for (id, to) in plan.hand_over {
            leases[id.index().expect("a number") as usize].owner = Some(to);
        }
    }
    let of_mute = leases
        .iter()
        .filter(|lease| lease.owner.as_deref() == Some("mute"));
    assert!((9..=11).contains(&of_mute.count()), "{leases:?}");
    // It gives as well as it takes.
    let too_much = held(30, &["a", "b", "mute", "mute"]);
    let moved = moves(&too_much, &members);
    assert!(
        moved
            .iter()
            .any(|(from, to)| from == "mute" && to != "mute"),
        "{moved:?}"
    );
}

#[test]
fn of_several_metrics_the_one_by_which_most_is_to_be_moved_counts() {
    let leases = held(30, &["a", "b", "c"]);
    let mut members = telling(&[
        ("a", Some(50.0), 100),
        ("b", Some(50.0), 100),
        ("c", Some(50.0), 100),
    ]);
    for (member, memory) in members.iter_mut().zip([80.0, 30.0, 40.0]) {
        member.record("M", Some(memory), 100);
    }
    // All are alike by CPU, and nobody may be lifted above the average of it.
    assert_eq!(moves(&leases, &members), []);
    for (member, cpu) in members.iter_mut().zip([60.0, 25.0, 45.0]) {
        member.values.insert("C".to_owned(), vec![cpu]);
    }
    let moved = moves(&leases, &members);
    // 22.5 KB/s by the memory; it would be 16.7 by the CPU.
    let from_a_to_b = ("a".to_owned(), "b".to_owned());
    assert_eq!(moved, [from_a_to_b.clone(), from_a_to_b]);
}

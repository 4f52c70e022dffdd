//! What one pass of the leader costs its thread: 20,000 leases, 500 workers, without DynamoDB. And how many
//! passes it takes until every worker has its share. And what it costs to tell the leases of 500 streams apart.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use kinesis_consumer::bench::{Fleet, ManyStreams, Moves};
use kinesis_consumer::{LeaseAssignment, UtilizationSettings};

mod on_cpu;
use on_cpu::on_cpu;

const LEASES: usize = 20_000;
const WORKERS: usize = 500;
const STREAMS: usize = 500;

/// One pass, timed.
fn pass(fleet: &mut Fleet) -> (Moves, Duration) {
    let mut took = Duration::ZERO;
    let moves = fleet.pass(|plan| {
        let before = on_cpu();
        plan();
        took = on_cpu() - before;
    });
    (moves, took)
}

fn assignment(criterion: &mut Criterion) {
    let rules = [
        ("count", LeaseAssignment::LeaseCount),
        (
            "utilization",
            LeaseAssignment::WorkerUtilization(UtilizationSettings::default()),
        ),
    ];
    let mut group = criterion.benchmark_group("assignment");
    group.sample_size(10);
    for (name, rule) in rules {
        // All free, half of the workers new, one worker new.
        for holders in [0, WORKERS / 2, WORKERS - 1] {
            let mut fleet = Fleet::new(rule, LEASES, holders, WORKERS);
            let mut slowest = Duration::ZERO;
            let mut even_after = None;
            for number in 1..=10 {
                slowest = slowest.max(pass(&mut fleet).1);
                if even_after.is_none() && is_even(&fleet, rule) {
                    even_after = Some(number);
                }
            }
            println!(
                "{name}, {holders} of {WORKERS} hold all at first: even after pass {even_after:?}, \
                 slowest {slowest:?}"
            );
        }
        group.bench_function(format!("{name}, everything given"), |bencher| {
            bencher.iter_custom(|times| {
                let mut given = Duration::ZERO;
                for _ in 0..times {
                    given += pass(&mut Fleet::new(rule, LEASES, 0, WORKERS)).1;
                }
                given
            });
        });
        group.bench_function(format!("{name}, half moving"), |bencher| {
            bencher.iter_custom(|times| {
                let mut moving = Duration::ZERO;
                for _ in 0..times {
                    moving += pass(&mut Fleet::new(rule, LEASES, WORKERS / 2, WORKERS)).1;
                }
                moving
            });
        });
    }
}

/// Whether every worker has its share, as the rule counts it.
fn is_even(fleet: &Fleet, rule: LeaseAssignment) -> bool {
    let (loads, far) = match rule {
        LeaseAssignment::LeaseCount => {
            let counts = fleet.counts().into_iter();
            (counts.map(|count| count as f64).collect(), 1.0)
        }
        LeaseAssignment::WorkerUtilization(how) => {
            let loads = fleet.loads();
            let average = loads.iter().sum::<f64>() / WORKERS as f64;
            let percent = f64::from(how.rebalance_threshold_percentage);
            (loads, average * percent / 100.0)
        }
    };
    let average = loads.iter().sum::<f64>() / WORKERS as f64;
    loads.iter().all(|load| (load - average).abs() <= far)
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("streams");
    group.sample_size(10);
    for streams in [1, STREAMS] {
        let table = ManyStreams::new(streams, LEASES);
        group.bench_function(format!("{streams}, one look"), |bencher| {
            bencher.iter_custom(|times| {
                let mut looked = Duration::ZERO;
                for _ in 0..times {
                    let holes = table.look(|look| {
                        let before = on_cpu();
                        look();
                        looked += on_cpu() - before;
                    });
                    assert_eq!(holes, 1);
                }
                looked
            });
        });
    }
}

criterion_group!(benches, assignment, streams);
criterion_main!(benches);

//! User records per second of one thread's processor time, from an answer of `GetRecords` to the
//! batch that a processor is handed: checksum, members, the range check, buffer.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kinesis_consumer::bench::Reading;
use kinesis_core::{Aggregate, HashKeyRange, UserRecord};

mod on_cpu;
use on_cpu::on_cpu;

/// Kinesis records of an answer, 50 KiB each.
const AGGREGATES: usize = 100;
/// Source: the producer's default, and the KPL's.
const AGGREGATE_BYTES: usize = 50 * 1024;
const DATA_BYTES: usize = 100;

/// Aggregates of records over so many keys, and how many records they hold.
fn aggregates(keys: usize) -> (Vec<Bytes>, usize) {
    let data = Bytes::from(vec![b'x'; DATA_BYTES]);
    let mut records = (0..).map(|number: usize| {
        let key = format!("vehicle-{:06}", number.wrapping_mul(7919) % keys);
        UserRecord::new(key, data.clone())
    });
    let mut count = 0;
    let aggregates = (0..AGGREGATES).map(|_| {
        let mut aggregate = Aggregate::new();
        for record in records.by_ref() {
            aggregate.push(record);
            count += 1;
            if aggregate.encoded_len() + 2 * DATA_BYTES > AGGREGATE_BYTES {
                break;
            }
        }
        aggregate.encode()
    });
    (aggregates.collect(), count)
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reading");
    for keys in [100, 1_000, 1_000_000] {
        let (aggregates, count) = aggregates(keys);
        // Short of the whole by one, so that every member is checked and none is foreign.
        let range = HashKeyRange::new(
            HashKeyRange::FULL.start(),
            kinesis_core::HashKey(u128::MAX - 1),
        );
        let mut reading = Reading::new(range.expect("ordered"), &aggregates);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{keys} keys"), |bencher| {
            bencher.iter_custom(|times| {
                let before = on_cpu();
                for _ in 0..times {
                    reading.run(|records| assert_eq!(black_box(records).len(), count));
                }
                on_cpu() - before
            });
        });
    }
}

criterion_group!(benches, reading);
criterion_main!(benches);

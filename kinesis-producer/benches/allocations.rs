//! Allocations per record from hand-over to acknowledgement, without the SDK. A program of its own,
//! because counting slows every allocation down.

mod records;

use std::hint::black_box;

use kinesis_producer::bench::Journey;

use crate::records::{RECORDS, records};

fn main() {
    for (shards, keys) in [(1, 100), (16, 1_000), (16, RECORDS), (1_000, 1_000)] {
        let records = records(keys);
        let mut journey = Journey::new(shards);
        journey.run(&records);
        let counted = allocation_counter::measure(|| {
            black_box(journey.run(&records));
        });
        let per_record = counted.count_total as f64 / RECORDS as f64;
        println!("{shards} shards, {keys} keys: {per_record:.3} allocations per record");
    }
}

//! What an instance in this process costs a test: start, first calls, end.
#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kinesis_local::KinesisLocal;

fn start(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    criterion.bench_function("start", |bencher| {
        bencher.iter(|| {
            let local = runtime.block_on(KinesisLocal::builder().start()).unwrap();
            black_box(local);
        });
    });
    criterion.bench_function("start, a stream, end", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let local = KinesisLocal::builder().start().await.unwrap();
                let kinesis = aws_sdk_kinesis::Client::new(&local.sdk_config());
                let create = kinesis.create_stream().stream_name("s").shard_count(4);
                create.send().await.unwrap();
                local.shutdown().await;
            });
        });
    });
}

criterion_group!(benches, start);
criterion_main!(benches);

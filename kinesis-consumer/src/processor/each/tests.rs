mod busy;
mod interval;
mod panics;

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;

use futures::FutureExt;
use kinesis_core::SequenceNumber;

use super::*;

fn record(number: u64, key: &str) -> Record {
    let sequence: SequenceNumber = number.to_string().parse().expect("digits");
    Record::new(key, number.to_string(), sequence)
}

fn at(number: u64) -> Position {
    Position::at(number.to_string().parse().expect("digits"), 0)
}

/// What happened, by (number, "begin" or "end").
type Log = Arc<Mutex<Vec<(u64, &'static str)>>>;

/// A processor of shard 0 whose records take `time(number)` and end as `result(number)`.
fn processor(
    settings: ForEach,
    log: &Log,
    time: fn(u64) -> u64,
    result: impl Fn(u64) -> Result<(), ProcessorError> + Send + Sync + 'static,
) -> Each {
    let (log, result) = (Arc::clone(log), Arc::new(result));
    let handler: Handler = Arc::new(move |handled| {
        let number: u64 = handled
            .record
            .sequence_number
            .as_str()
            .parse()
            .expect("small");
        let (log, result) = (Arc::clone(&log), Arc::clone(&result));
        Box::pin(async move {
            let note = |what| log.lock().expect("no panic").push((number, what));
            note("begin");
            tokio::time::sleep(Duration::from_millis(time(number))).await;
            note("end");
            result(number)
        })
    });
    Each::new(settings, None, ShardId::from_index(0), handler)
}

fn input(numbers: std::ops::RangeInclusive<u64>, keys: &[&str]) -> ProcessRecordsInput {
    let delivered = at(*numbers.end());
    let checkpointer =
        Checkpointer::in_memory(ShardId::from_index(0), Position::TrimHorizon, delivered);
    let records: Vec<Record> = numbers
        .zip(keys)
        .map(|(number, key)| record(number, key))
        .collect();
    ProcessRecordsInput::new(records, checkpointer)
}

#[tokio::test(start_paused = true)]
async fn keys_run_beside_each_other_and_each_in_order() {
    let log = Log::default();
    // The first of "a" takes longest; it holds up "a" alone.
    let time = |number| if number == 1 { 1_000 } else { 10 };
    let mut each = processor(ForEach::default(), &log, time, |_| Ok(()));
    let batch = input(1..=5, &["a", "b", "a", "b", "c"]);
    let begun = each.runner.clock.now();
    each.process_records(batch.clone())
        .await
        .expect("processed");
    assert_eq!(
        each.runner.clock.now() - begun,
        Duration::from_millis(1_010)
    );
    let log = log.lock().expect("no panic");
    let when = |what| {
        log.iter()
            .position(|event| *event == what)
            .expect("it happened")
    };
    assert!(when((3, "begin")) > when((1, "end")));
    assert!(when((4, "begin")) > when((2, "end")));
    assert!(when((4, "end")) < when((1, "end")));
    assert_eq!(batch.checkpointer.last(), at(5));
}

#[tokio::test(start_paused = true)]
async fn slow_handlers_take_a_part_of_the_time_that_they_take_one_by_one() {
    for (concurrency, millis) in [(1, 2_000), (10, 200)] {
        let log = Log::default();
        let settings = ForEach {
            concurrency,
            ..ForEach::default()
        };
        let mut each = processor(settings, &log, |_| 100, |_| Ok(()));
        let keys: Vec<String> = (0..20).map(|key| key.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let begun = each.runner.clock.now();
        each.process_records(input(1..=20, &keys))
            .await
            .expect("processed");
        assert_eq!((each.runner.clock.now() - begun).as_millis(), millis);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_record_holds_the_checkpoint_and_what_is_done_behind_it_does_not_pass_it() {
    let log = Log::default();
    let time = |number| if number == 3 { 60_000 } else { 10 };
    let mut each = processor(ForEach::default(), &log, time, |_| Ok(()));
    let batch = input(1..=5, &["a", "b", "c", "d", "e"]);
    let checkpointer = batch.checkpointer.clone();
    let looked = async {
        tokio::time::sleep(CHECKPOINT_INTERVAL * 2).await;
        checkpointer.last()
    };
    let (processed, last) = tokio::join!(each.process_records(batch), looked);
    processed.expect("processed");
    assert_eq!(
        last,
        at(2),
        "checkpointed on the way, before the record that is under way"
    );
    assert_eq!(checkpointer.last(), at(5));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_takes_long_holds_up_no_record() {
    let log = Log::default();
    let settings = ForEach {
        concurrency: 1,
        ..ForEach::default()
    };
    let mut each = processor(settings, &log, |_| 1_000, |_| Ok(()));
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let batch = input(1..=10, &keys);
    let checkpointer = batch.checkpointer.clone();
    let looked = async {
        let held_up = checkpointer.hold_up().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let ended = log.lock().expect("no panic").last().copied();
        drop(held_up);
        (ended, checkpointer.last())
    };
    let (looked, processed) = tokio::join!(looked, each.process_records(batch));
    processed.expect("processed");
    assert_eq!(looked, (Some((10, "end")), Position::TrimHorizon));
    assert_eq!(checkpointer.last(), at(10));
}

#[tokio::test(start_paused = true)]
async fn a_failed_record_is_named_and_what_was_done_is_not_handled_again() {
    let log = Log::default();
    let failed = Mutex::new(false);
    let result = move |number| {
        if number == 2 && !std::mem::replace(&mut *failed.lock().expect("no panic"), true) {
            return Err(ProcessorError::poison("no flight"));
        }
        Ok(())
    };
    let mut each = processor(ForEach::default(), &log, |_| 10, result);
    let batch = input(1..=4, &["a", "b", "b", "c"]);
    let error = each
        .process_records(batch.clone())
        .await
        .expect_err("2 fails");
    assert!(matches!(error, ProcessorError::PoisonAt { position, .. } if position == at(2)));
    assert_eq!(
        batch.checkpointer.last(),
        at(1),
        "what is done is checkpointed"
    );
    each.process_records(batch.clone())
        .await
        .expect("2 succeeds");
    assert_eq!(batch.checkpointer.last(), at(4));
    let begun: Vec<u64> = log
        .lock()
        .expect("no panic")
        .iter()
        .filter_map(|(number, what)| (*what == "begin").then_some(*number))
        .collect();
    assert_eq!(begun, [1, 2, 4, 2, 3], "1 and 4 once, 3 after 2");
}

#[tokio::test(start_paused = true)]
async fn once_a_stop_is_requested_nothing_starts_and_what_runs_is_checkpointed() {
    let log = Log::default();
    let settings = ForEach {
        concurrency: 2,
        ..ForEach::default()
    };
    let mut each = processor(settings, &log, |_| 100, |_| Ok(()));
    let mut batch = input(1..=6, &["a", "b", "c", "d", "e", "f"]);
    let lost = tokio_util::sync::CancellationToken::new();
    let mut sender = super::super::StopSender::new(lost);
    batch.stop = sender.signal();
    let deadline = each.runner.clock.now() + Duration::from_secs(20);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        sender.set(Some(deadline));
    };
    let checkpointer = batch.checkpointer.clone();
    let (result, ()) = tokio::join!(each.process_records(batch), stop);
    assert!(
        matches!(result, Err(ProcessorError::Retry(_))),
        "{result:?}"
    );
    assert_eq!(checkpointer.last(), at(2));
    assert_eq!(
        log.lock().expect("no panic").len(),
        4,
        "two began and ended"
    );
}

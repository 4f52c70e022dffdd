//! When checkpoints are made.

use super::*;

/// A checkpointer of which nothing is delivered yet.
fn checkpointer() -> Checkpointer {
    let begin = Position::TrimHorizon;
    Checkpointer::in_memory(ShardId::from_index(0), begin.clone(), begin)
}

/// Begins on a batch of one record as the shard's task does.
fn begin<'a>(
    each: &'a mut Each,
    checkpointer: &Checkpointer,
    number: u64,
) -> impl Future<Output = Result<(), ProcessorError>> + 'a {
    checkpointer.deliver(at(number));
    let input = ProcessRecordsInput::new([record(number, "a")], checkpointer.of_delivery());
    each.process_records(input)
}

/// A processor of which 1 and 2 are done, and 2 waits for the interval to be over.
async fn with_one_owed(each: &mut Each) -> Checkpointer {
    let checkpointer = checkpointer();
    deliver(each, &checkpointer, 1).await;
    deliver(each, &checkpointer, 2).await;
    assert_eq!(checkpointer.last(), at(1));
    checkpointer
}

/// Delivers a batch of one record as the shard's task does.
async fn deliver(each: &mut Each, checkpointer: &Checkpointer, number: u64) {
    begin(each, checkpointer, number).await.expect("processed");
    checkpointer.settle();
}

#[tokio::test(start_paused = true)]
async fn batches_within_the_interval_are_checkpointed_once_it_is_over_also_if_none_comes() {
    let log = Log::default();
    let mut each = processor(ForEach::default(), &log, |_| 10, |_| Ok(()));
    let checkpointer = checkpointer();
    deliver(&mut each, &checkpointer, 1).await;
    assert_eq!(checkpointer.last(), at(1), "there was none for long");
    for number in 2..=9 {
        deliver(&mut each, &checkpointer, number).await;
        assert_eq!(checkpointer.last(), at(1));
    }
    tokio::time::sleep(CHECKPOINT_INTERVAL).await;
    assert_eq!(checkpointer.last(), at(9));

    // The interval begins anew with that one.
    deliver(&mut each, &checkpointer, 10).await;
    assert_eq!(checkpointer.last(), at(9));
    tokio::time::sleep(CHECKPOINT_INTERVAL).await;
    assert_eq!(checkpointer.last(), at(10));
}

#[tokio::test(start_paused = true)]
async fn batches_that_come_all_the_time_are_checkpointed_every_interval() {
    let log = Log::default();
    let mut each = processor(ForEach::default(), &log, |_| 1_900, |_| Ok(()));
    let checkpointer = checkpointer();
    let mut stored = Vec::new();
    for number in 1..=10 {
        deliver(&mut each, &checkpointer, number).await;
        stored.push(checkpointer.last());
    }
    stored.dedup();
    // The first at 1.9 s; 6.9 s is in the fourth, of which nothing is done: the third is stored then.
    assert_eq!(stored, [1, 3, 6, 8].map(at));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_interval() {
    let log = Log::default();
    let mut each = processor(ForEach::default(), &log, |_| 10, |_| Ok(()));
    let checkpointer = checkpointer();
    deliver(&mut each, &checkpointer, 1).await;
    deliver(&mut each, &checkpointer, 2).await;
    let stopped = each.shutdown_requested(checkpointer.of_delivery()).await;
    stopped.expect("checkpointed");
    assert_eq!(checkpointer.last(), at(2));
}

#[tokio::test(start_paused = true)]
async fn what_is_done_while_a_handler_hangs_is_checkpointed_before_a_stop_cuts_it_off() {
    let log = Log::default();
    // The last never ends.
    let time = |number| if number == 4 { 1_000_000 } else { 100 * number };
    let mut each = processor(ForEach::default(), &log, time, |_| Ok(()));
    let mut batch = input(1..=4, &["a", "b", "c", "d"]);
    let mut sender =
        super::super::super::StopSender::new(tokio_util::sync::CancellationToken::new());
    batch.stop = sender.signal();
    let checkpointer = batch.checkpointer.clone();
    let deadline = each.runner.clock.now() + Duration::from_secs(1);
    let stop = async {
        // The first is done, and no interval is over.
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(checkpointer.last(), Position::TrimHorizon);
        sender.set(Some(deadline));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(checkpointer.last(), at(1), "at once");
    };
    let (cut, ()) = tokio::join!(
        tokio::time::timeout_at(deadline, each.process_records(batch)),
        stop
    );
    assert!(cut.is_err(), "it hangs");
    assert_eq!(checkpointer.last(), at(3));
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_first_record_hangs_does_not_hold_up_what_those_before_it_owe() {
    let log = Log::default();
    let time = |number| if number == 3 { 1_000_000 } else { 10 };
    let mut each = processor(ForEach::default(), &log, time, |_| Ok(()));
    let checkpointer = with_one_owed(&mut each).await;
    let hangs = begin(&mut each, &checkpointer, 3);
    let hung = tokio::time::timeout(CHECKPOINT_INTERVAL, hangs).await;
    assert!(hung.is_err(), "it hangs");
    assert_eq!(checkpointer.last(), at(2));
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_first_record_hangs_checkpoints_at_once_what_those_before_it_owe() {
    let log = Log::default();
    let time = |number| if number == 3 { 1_000_000 } else { 10 };
    let mut each = processor(ForEach::default(), &log, time, |_| Ok(()));
    let checkpointer = with_one_owed(&mut each).await;
    checkpointer.deliver(at(3));
    let mut batch = ProcessRecordsInput::new([record(3, "a")], checkpointer.of_delivery());
    let mut sender =
        super::super::super::StopSender::new(tokio_util::sync::CancellationToken::new());
    batch.stop = sender.signal();
    let deadline = each.runner.clock.now() + Duration::from_secs(20);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(checkpointer.last(), at(1));
        sender.set(Some(deadline));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(checkpointer.last(), at(2));
    };
    tokio::select! {
        _ = each.process_records(batch) => unreachable!("it hangs"),
        () = stop => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_first_record_fails_checkpoints_what_those_before_it_owe_before_it_says_so() {
    for fatal in [true, false] {
        let log = Log::default();
        let result = move |number| match (number, fatal) {
            (3, true) => Err(ProcessorError::fatal("the stream was dropped")),
            (3, false) => Err(ProcessorError::retry("not now")),
            _ => Ok(()),
        };
        let mut each = processor(ForEach::default(), &log, |_| 10, result);
        let checkpointer = with_one_owed(&mut each).await;
        let failed = begin(&mut each, &checkpointer, 3).await;
        assert!(failed.is_err(), "{failed:?}");
        assert_eq!(checkpointer.last(), at(2), "fatal: {fatal}");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_behind_which_nothing_comes_are_checkpointed_however_late_they_are_stored() {
    let log = Log::default();
    let result = |number| match number {
        3 => Err(ProcessorError::poison("no flight")),
        _ => Ok(()),
    };
    let mut each = processor(ForEach::default(), &log, |_| 10, result);
    let checkpointer = with_one_owed(&mut each).await;
    let poison = begin(&mut each, &checkpointer, 3).await;
    assert!(poison.is_err(), "{poison:?}");
    checkpointer.withdraw();
    tokio::time::sleep(CHECKPOINT_INTERVAL * 10).await;
    assert_eq!(checkpointer.last(), at(2), "it is not stored yet");
    // As the shard's task does once it is, and with the next one that is known to be poison.
    for letter in 3..=4 {
        checkpointer.deliver(at(letter));
        checkpointer.settle();
        tokio::time::sleep(CHECKPOINT_INTERVAL).await;
        assert_eq!(checkpointer.last(), at(letter));
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_out_of_bounds_is_the_nearest_one_within() {
    for (interval, counts) in [
        (Duration::ZERO, CHECKPOINT_INTERVAL_MIN),
        (Duration::MAX, CHECKPOINT_INTERVAL_MAX),
    ] {
        let log = Log::default();
        let settings = ForEach {
            checkpoint_interval: interval,
            ..ForEach::default()
        };
        let mut each = processor(settings, &log, |_| 1_000, |_| Ok(()));
        assert_eq!(each.runner.settings.checkpoint_interval, counts);
        let batch = input(1..=2, &["a", "a"]);
        each.process_records(batch.clone())
            .await
            .expect("processed");
        assert_eq!(batch.checkpointer.last(), at(2));
    }
}

#[tokio::test(start_paused = true)]
async fn records_of_which_none_is_done_any_more_say_so() {
    let (written, _installed) = crate::written::Written::begin();
    let log = Log::default();
    let time = |number| if number == 3 { 200_000 } else { 10 };
    let mut each = processor(ForEach::default(), &log, time, |_| Ok(()));
    each.process_records(input(1..=4, &["a", "b", "c", "d"]))
        .await
        .expect("processed");
    let lines = written.lines("No record was done for a while");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("under_way=1 records=2 first=3"),
        "{lines:?}"
    );

    let busy = |_| 59_000;
    let mut each = processor(ForEach::default(), &log, busy, |_| Ok(()));
    each.process_records(input(5..=8, &["a"; 4]))
        .await
        .expect("processed");
    let lines = written.lines("No record was done for a while");
    assert_eq!(lines.len(), 2, "one after the other is no stall: {lines:?}");
}

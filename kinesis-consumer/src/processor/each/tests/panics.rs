//! Handlers that panic.

use super::*;

/// Delivers the batch; what it panicked with.
async fn panicked(each: &mut Each, batch: ProcessRecordsInput) -> String {
    let result = AssertUnwindSafe(each.process_records(batch)).catch_unwind();
    let panic = result.await.expect_err("it panics");
    panic.downcast_ref::<&str>().expect("a text").to_string()
}

#[tokio::test(start_paused = true)]
async fn records_beside_one_whose_handler_panics_finish_and_are_not_handled_again() {
    let log = Log::default();
    let panics = Mutex::new(true);
    let result = move |number| {
        let panics = number == 2 && std::mem::take(&mut *panics.lock().expect("no panic"));
        assert!(!panics, "no flight");
        Ok(())
    };
    let time = |number| if number == 2 { 10 } else { 100 };
    let mut each = processor(ForEach::default(), &log, time, result);
    let batch = input(1..=4, &["a", "b", "c", "b"]);
    assert_eq!(panicked(&mut each, batch.clone()).await, "no flight");
    assert_eq!(
        batch.checkpointer.last(),
        at(1),
        "what is done is checkpointed"
    );
    each.process_records(batch.clone())
        .await
        .expect("processed");
    assert_eq!(batch.checkpointer.last(), at(4));
    let ended = log.lock().expect("no panic");
    let ended = ended
        .iter()
        .filter_map(|(number, what)| (*what == "end").then_some(*number));
    assert_eq!(ended.collect::<Vec<_>>(), [2, 1, 3, 2, 4], "1 and 3 once");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_before_its_future_exists_leaves_those_beside_it_alone() {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&ended);
    let handler: Handler = Arc::new(move |handled| {
        assert_ne!(handled.record.partition_key.as_ref(), "b", "no flight");
        let log = Arc::clone(&log);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            log.lock()
                .expect("no panic")
                .push(handled.record.position());
            Ok(())
        })
    });
    let mut each = Each::new(ForEach::default(), None, ShardId::from_index(0), handler);
    let batch = input(1..=3, &["a", "b", "c"]);
    let result = AssertUnwindSafe(each.process_records(batch.clone())).catch_unwind();
    assert!(result.await.is_err(), "it panics");
    assert_eq!(*ended.lock().expect("no panic"), [at(1), at(3)]);
    assert_eq!(batch.checkpointer.last(), at(1));
}

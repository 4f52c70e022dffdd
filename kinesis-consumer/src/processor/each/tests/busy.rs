//! Handlers that never wait.

use super::*;

const RECORDS: u64 = 1_000;

/// A processor whose handler is done at once, and how many records it was called with.
fn busy() -> (Each, Arc<Mutex<u64>>) {
    let called = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&called);
    let handler: Handler = Arc::new(move |_| {
        *counted.lock().expect("no panic") += 1;
        Box::pin(std::future::ready(Ok(())))
    });
    let each = Each::new(ForEach::default(), None, ShardId::from_index(0), handler);
    (each, called)
}

fn batch() -> ProcessRecordsInput {
    let keys: Vec<String> = (0..RECORDS).map(|key| (key % 7).to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    input(1..=RECORDS, &keys)
}

#[tokio::test(start_paused = true)]
async fn handlers_that_never_wait_do_not_hold_up_a_stop() {
    let (mut each, called) = busy();
    let mut batch = batch();
    let mut sender =
        super::super::super::StopSender::new(tokio_util::sync::CancellationToken::new());
    batch.stop = sender.signal();
    let deadline = each.runner.clock.now() + Duration::from_secs(20);
    let checkpointer = batch.checkpointer.clone();
    let stop = async { sender.set(Some(deadline)) };
    let (result, ()) = tokio::join!(each.process_records(batch), stop);
    assert!(
        matches!(result, Err(ProcessorError::Retry(_))),
        "{result:?}"
    );
    let called = *called.lock().expect("no panic");
    assert!(called < RECORDS, "{called}");
    assert_eq!(checkpointer.last(), at(called), "what ran is checkpointed");
}

#[tokio::test(start_paused = true)]
async fn handlers_that_never_wait_do_not_hold_up_checkpoints() {
    let (mut each, _) = busy();
    let batch = batch();
    let checkpointer = batch.checkpointer.clone();
    let looked = async {
        tokio::time::advance(CHECKPOINT_INTERVAL * 2).await;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        checkpointer.last()
    };
    let (result, last) = tokio::join!(each.process_records(batch), looked);
    result.expect("processed");
    assert!(Position::TrimHorizon < last && last < at(RECORDS), "{last}");
}

//! Streams that may not be what they were.

use super::*;
use crate::stream::{StreamSource, Streams};

/// Asks what there is to ask, and takes in the answers.
async fn look(service: &mut Service) {
    service.find_streams();
    while let Some(found) = service.survey.next().await {
        service.take_in(found).expect("no reason to end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubt_that_comes_while_the_stream_is_looked_at_is_looked_into_as_well() {
    let rig = Rig::new(1).await;
    let looks = Arc::new(AtomicU64::new(0));
    let fails = Arc::new(AtomicBool::new(false));
    let doubting: Arc<std::sync::Mutex<Option<Arc<Source>>>> = Arc::default();
    let kinesis = rig.faulty_kinesis({
        let (looks, fails) = (Arc::clone(&looks), Arc::clone(&fails));
        let doubting = Arc::clone(&doubting);
        move |operation| {
            if operation != "DescribeStreamSummary" {
                return Fault::None;
            }
            looks.fetch_add(1, Ordering::Relaxed);
            if let Some(source) = doubting.lock().expect("not poisoned").take() {
                source.doubt();
            }
            if fails.load(Ordering::Relaxed) {
                Fault::Deny
            } else {
                Fault::None
            }
        }
    });
    let streams = Streams::new([StreamSource::from(STREAM)]).expect("a stream");
    let keeper = LeaseKeeper {
        kinesis,
        sources: Sources::Many(streams),
        ..rig.keeper(STREAM)
    };
    let pause = keeper.settings.shard_sync_interval;
    let (gained, _held) = mpsc::channel(1);
    let mut service = Service::new(keeper, gained, CancellationToken::new());
    look(&mut service).await;
    let source = Arc::clone(&service.streams[0].source);
    let is_doubted = || source.doubted.load(Ordering::Relaxed);
    let look_count = || looks.load(Ordering::Relaxed);

    source.doubt();
    *doubting.lock().expect("not poisoned") = Some(Arc::clone(&source));
    look(&mut service).await;
    assert_eq!(look_count(), 2);
    assert!(is_doubted(), "since");
    look(&mut service).await;
    assert_eq!(look_count(), 2, "not that soon");
    sleep(pause).await;
    look(&mut service).await;
    assert_eq!(look_count(), 3);
    assert!(!is_doubted());

    source.doubt();
    fails.store(true, Ordering::Relaxed);
    sleep(pause).await;
    look(&mut service).await;
    assert_eq!(look_count(), 4);
    assert!(is_doubted(), "nothing was learned");
}

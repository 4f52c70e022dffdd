//! What an application changes in its list of streams while it reads them.

use super::*;
use crate::stream::Streams;

#[tokio::test(start_paused = true)]
async fn a_stream_is_let_go_as_soon_as_it_is_not_listed_and_taken_as_soon_as_it_is() {
    const STREAMS: usize = 5;
    let rig = Rig::new(1).await;
    let named = |kind: &'static str| (0..STREAMS).map(move |index| format!("{kind}-{index}"));
    let streams = Streams::new(create_streams(&rig, named("old")).await).expect("valid");
    let more = create_streams(&rig, named("new")).await;
    let workers = ["a", "b"].map(|id| rig.worker_of_streams(id, &streams));
    let [a, b] = &workers;
    let count = || a.count() + b.count();
    until("all", &[a, b], || count() == STREAMS).await;
    sleep(Duration::from_secs(60)).await;
    let mut took = 0.0;
    for (index, name) in named("old").enumerate() {
        // Whenever that is between two looks.
        sleep(Duration::from_millis(3_313)).await;
        let start = Clock::system().now();
        assert!(streams.remove(&name));
        until("it is let go", &[a, b], || count() == STREAMS - 1 - index).await;
        took += seconds_since(start);
    }
    assert!(took < 0.5, "{STREAMS} streams let go: {took}");
    took = 0.0;
    for (index, stream) in more.into_iter().enumerate() {
        sleep(Duration::from_millis(3_313)).await;
        let start = Clock::system().now();
        streams.add(stream).expect("added");
        until("it is taken", &[a, b], || count() == index + 1).await;
        took += seconds_since(start);
    }
    // A look of the leader that makes the leases, one that gives them, and one of a follower that is given
    // one to find it, two seconds at most.
    assert!(
        took < 0.5 + 2.0 * STREAMS as f64,
        "{STREAMS} streams taken: {took}"
    );
}

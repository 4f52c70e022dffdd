use kinesis_core::Clock;
use tokio_util::sync::CancellationToken;

use super::*;

const MIB: usize = 1024 * 1024;

/// An answer of `length` bytes that its reader was given a piece of; the token is cancelled when it is cut.
fn answer(
    answers: &Answers,
    share: Share,
    length: Option<u64>,
) -> (Arc<Reading>, Watched, CancellationToken, Bytes) {
    let cut = CancellationToken::new();
    let reading = Arc::new(Reading::begin(
        length,
        cut.clone(),
        CancellationToken::new(),
    ));
    let watched = answers.watch(&reading);
    let bytes = share.hold(Bytes::from_static(b"piece"));
    let bytes = reading.hand_over(bytes, ());
    (reading, watched, cut, bytes)
}

#[tokio::test(start_paused = true)]
async fn a_small_answer_never_waits() {
    let answers = Answers::with(0, 0);
    assert!(
        answers
            .share_in_time(UNSHARED_BYTES)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        answers.share_in_time(UNSHARED_BYTES + 1).await.unwrap_err(),
        Full
    );
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_cut_within_a_second_or_two_when_others_wait_and_not_before() {
    let answers = Answers::with(16 * 1024, 16 * 1024);
    let share = answers.share_in_time(16 * MIB).await.unwrap().unwrap();
    let (reading, watched, cut, bytes) = answer(&answers, share, None);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert!(!cut.is_cancelled(), "nobody waits");
    let began = Clock::system().now();
    let cutting = tokio::spawn({
        let cut = cut.clone();
        async move {
            cut.cancelled().await;
            drop((reading, watched, bytes));
        }
    });
    let next = answers.share_in_time(MIB).await;
    assert!(next.is_ok());
    assert!(Clock::system().now() - began <= 2 * LOOK_EVERY);
    cutting.await.unwrap();
    drop(next);
    assert_eq!(answers.free_kib(), 16 * 1024);
}

#[tokio::test(start_paused = true)]
async fn who_reads_keeps_its_share_while_others_wait_and_they_are_told_to_come_again() {
    let answers = Answers::with(16 * 1024, 2 * 1024);
    let share = answers.share_in_time(16 * MIB).await.unwrap().unwrap();
    let (reading, _watched, cut, _bytes) = answer(&answers, share, None);
    let reads = tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY / 2).await;
            reading.taken(PIECE_BYTES);
        }
    });
    let began = Clock::system().now();
    // One waits as long as it may; beside it is no room for another.
    let waits = answers.share_in_time(2 * MIB);
    let other = async {
        tokio::task::yield_now().await;
        let refused = answers.share_in_time(MIB).await;
        (refused, Clock::system().now() - began)
    };
    let (waited, (refused, after)) = tokio::join!(waits, other);
    assert_eq!((waited.unwrap_err(), refused.unwrap_err()), (Full, Full));
    assert_eq!(after, Duration::ZERO);
    assert_eq!(Clock::system().now() - began, WAIT_MAX);
    assert!(!cut.is_cancelled());
    reads.abort();
}

#[tokio::test(start_paused = true)]
async fn who_waits_waits_for_readers_of_long_answers_that_read_fast_enough_and_for_no_others() {
    let large = Some(16 * MIB as u64);
    for (length, kib_per_second, keeps_it) in [
        (large, 32, false),
        (large, 260, false),
        (large, 290, true),
        // An object is no larger in memory.
        (Some(1 << 40), 290, true),
        (Some(MIB as u64), 32, true),
        (Some(MIB as u64), 16, false),
        // A subscription is made as it is read.
        (None, 1, true),
    ] {
        let answers = Answers::with(16 * 1024, 2 * 1024);
        let share = answers.share_in_time(16 * MIB).await.unwrap().unwrap();
        let (reading, watched, cut, bytes) = answer(&answers, share, length);
        let reads = tokio::spawn(async move {
            let _held = (watched, bytes);
            while !cut.is_cancelled() {
                reading.taken(kib_per_second * 1024 / 4);
                tokio::time::sleep(LOOK_EVERY / 4).await;
            }
        });
        let began = Clock::system().now();
        let waited = answers.share_in_time(MIB).await;
        let case = format!("{length:?} at {kib_per_second}");
        assert_eq!(waited.is_err(), keeps_it, "{case}");
        if !keeps_it {
            assert!(Clock::system().now() - began <= 4 * LOOK_EVERY, "{case}");
        }
        reads.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_nothing_to_be_written_is_not_unread() {
    let reading = Arc::new(Reading::begin(
        None,
        CancellationToken::new(),
        CancellationToken::new(),
    ));
    let began = Clock::system().now();
    assert_eq!(
        reading.unread_since(),
        Some(began),
        "nobody asked for it yet"
    );
    let piece = reading.hand_over(Bytes::from_static(b"piece"), ());
    reading.taken(PIECE_BYTES);
    reading.drained();
    tokio::time::advance(LOOK_EVERY).await;
    assert_eq!(
        reading.unread_since(),
        Some(began),
        "the piece is not written"
    );
    drop(piece);
    assert_eq!(reading.unread_since(), None);
    reading.taken(PIECE_BYTES);
    let again = Clock::system().now();
    assert_eq!(reading.unread_since(), Some(again));
}

#[tokio::test(start_paused = true)]
async fn a_share_lasts_as_long_as_the_last_of_its_bytes() {
    let answers = Answers::with(1024, 0);
    let share = answers.share(MIB).await.unwrap();
    let mut bytes = share.hold(vec![1; MIB].into());
    let piece = bytes.split_to(10);
    drop(bytes);
    assert_eq!(answers.free_kib(), 0);
    drop(piece);
    assert_eq!(answers.free_kib(), 1024);
}

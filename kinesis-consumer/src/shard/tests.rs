use std::task::Poll;
use std::time::Duration;

use tokio::time::advance;

use super::*;

fn begun() -> Life {
    let second = Duration::from_secs(1);
    let times = StopTimes::new(second, second);
    Life::new(times, Backoff::new(second, second), Rand::seeded(1))
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_entered_once_the_time_of_its_lease_is_over_though_its_task_did_not_notice() {
    let (lease, _task, failover) = HeldLease::of_a_test();
    let (life, stop) = (begun(), CancellationToken::new());
    let mut entered = 0;
    let event = interruptible(&life, &lease, &stop, async {
        entered += 1;
        Event::Rested
    });
    assert!(matches!(event.await, Event::Rested));
    // The process stands still.
    advance(failover).await;
    let event = interruptible(&life, &lease, &stop, async {
        entered += 1;
        Event::Rested
    });
    assert!(matches!(event.await, Event::Lost));
    assert_eq!(entered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_gone_on_with_either_and_the_task_gives_the_lease_up() {
    let (lease, task, failover) = HeldLease::of_a_test();
    let (life, stop) = (begun(), CancellationToken::new());
    let mut polls = 0;
    let work = std::future::poll_fn(|_| {
        polls += 1;
        Poll::<Event>::Pending
    });
    {
        let mut call = std::pin::pin!(interruptible(&life, &lease, &stop, work));
        assert!(futures::poll!(call.as_mut()).is_pending());
        advance(failover).await;
        assert!(matches!(
            futures::poll!(call.as_mut()),
            Poll::Ready(Event::Lost)
        ));
    }
    assert_eq!(polls, 1);
    assert!(lease.lost().is_cancelled(), "for every handle");
    // It does not renew what nobody works on, though handles are there.
    let ended = tokio::time::timeout(Duration::ZERO, task).await;
    assert!(ended.is_ok(), "the task goes on");
}

use kinesis_core::{Clock, Position};

use super::*;

const TIMING: Timing = Timing {
    failover: Duration::from_secs(10),
    handoff: Duration::from_secs(30),
};

fn row(counter: u64) -> Lease {
    Lease {
        owner: Some("me".to_owned()),
        counter,
        acquisition: Some("take 1".to_owned()),
        ..Lease::new("shardId-000000000000".into(), Position::TrimHorizon)
    }
}

fn handed_over(counter: u64) -> Lease {
    Lease {
        owner: Some("you".to_owned()),
        checkpoint_owner: Some("me".to_owned()),
        ..row(counter)
    }
}

fn tenure() -> (Tenure, Instant) {
    let start = Clock::system().now();
    (Tenure::new("me", "take 1", row(5), TIMING, start), start)
}

fn after(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

#[test]
fn a_lease_is_renewed_twice_and_fenced_before_others_may_take_it() {
    let (tenure, start) = tenure();
    assert_eq!(tenure.renew_at(), after(start, 4_000));
    assert_eq!(tenure.fence_at(), after(start, 9_000));
    assert_eq!(tenure.loss_at_fence(), Loss::NotRenewed);
}

#[test]
fn a_head_start_moves_the_first_renewal_only() {
    let (tenure, start) = tenure();
    let mut tenure = tenure.with_head_start(0.5);
    assert_eq!(tenure.renew_at(), after(start, 2_000));
    assert_eq!(tenure.fence_at(), after(start, 9_000));
    tenure.written(row(6), after(start, 1_000), after(start, 1_000));
    assert_eq!(tenure.renew_at(), after(start, 5_000));
}

#[test]
fn a_write_puts_renewal_and_fence_off_from_when_it_was_sent() {
    let (mut tenure, start) = tenure();
    tenure.sending(after(start, 2_000));
    tenure.written(row(6), after(start, 2_000), after(start, 2_900));
    assert_eq!(tenure.fence_at(), after(start, 11_000));
    assert_eq!(tenure.lease().counter, 6);
}

#[test]
fn a_write_whose_answer_was_lost_is_recognised_and_counts_from_the_first_attempt() {
    let (mut tenure, start) = tenure();
    tenure.sending(after(start, 3_000));
    tenure.sending(after(start, 5_000));
    assert_eq!(
        tenure.refused(Some(row(6)), after(start, 5_100)),
        Verdict::Retry
    );
    assert_eq!(tenure.lease().counter, 6);
    assert_eq!(tenure.fence_at(), after(start, 12_000));
    // The next write starts afresh.
    tenure.sending(after(start, 6_000));
    assert_eq!(
        tenure.refused(Some(row(7)), after(start, 6_100)),
        Verdict::Retry
    );
    assert_eq!(tenure.fence_at(), after(start, 15_000));
}

#[test]
fn a_row_that_somebody_else_wrote_is_a_lost_lease() {
    let other_owner = Lease {
        owner: Some("you".to_owned()),
        ..row(6)
    };
    let other_process = Lease {
        acquisition: Some("take 2".to_owned()),
        ..row(6)
    };
    let not_ours_yet = Lease {
        checkpoint_owner: Some("you".to_owned()),
        ..row(6)
    };
    let far_ahead = row(7);
    for (found, loss) in [
        (Some(other_owner), Loss::Taken),
        (Some(other_process), Loss::Taken),
        (Some(not_ours_yet), Loss::Taken),
        (Some(far_ahead), Loss::Taken),
        (None, Loss::Gone),
    ] {
        let (mut tenure, start) = tenure();
        tenure.sending(start);
        assert_eq!(
            tenure.refused(found.clone(), start),
            Verdict::Lost(loss),
            "{found:?}"
        );
    }
}

#[test]
fn a_counter_nobody_of_us_could_have_raised_is_a_lost_lease() {
    let (mut tenure, start) = tenure();
    assert_eq!(
        tenure.refused(Some(row(6)), start),
        Verdict::Lost(Loss::Taken)
    );
}

#[test]
fn what_was_to_be_handed_over_stays_here_if_the_next_owner_withdrew() {
    let (mut tenure, start) = tenure();
    assert_eq!(tenure.give_up(true), Write::give_up(&row(5)));
    tenure.sending(start);
    assert_eq!(tenure.refused(Some(handed_over(5)), start), Verdict::Retry);
    let handed = tenure
        .give_up(true)
        .apply(&handed_over(5))
        .expect("as seen");
    assert_eq!((handed.holder(), handed.counter), (Some("you"), 6));

    // It withdrew before the lease was given up.
    let marked = |row: Lease| Lease {
        acquisition: Some("me/1/1".to_owned()),
        ..row
    };
    let withdraw = Write::withdraw(&marked(handed_over(5))).expect("a handoff");
    let withdrawn = withdraw
        .apply(&marked(handed_over(7)))
        .expect("whatever the counter");
    assert_eq!(withdrawn, marked(row(7)));
    assert_eq!(
        tenure.give_up(true).apply(&row(5)),
        None,
        "it is seen first"
    );
    assert_eq!(tenure.refused(Some(row(5)), start), Verdict::Retry);
    let kept = tenure.give_up(true).apply(&row(5)).expect("as seen");
    assert_eq!(kept, row(6));
    let freed = tenure.give_up(false).apply(&row(5)).expect("as seen");
    assert_eq!(freed.owner, None, "who stops has no use for it");
    // Too late.
    assert_eq!(withdraw.apply(&marked(handed)), None);
}

#[test]
fn nobody_withdraws_from_a_handoff_of_a_holder_that_may_be_a_kcl() {
    let unmarked = Lease {
        acquisition: None,
        ..handed_over(5)
    };
    let of_another = Lease {
        acquisition: Some("before/1/1".to_owned()),
        ..handed_over(5)
    };
    for seen in [unmarked, of_another, row(5)] {
        assert_eq!(Write::withdraw(&seen), None, "{seen:?}");
    }
}

#[test]
fn a_handoff_is_noticed_in_any_answer_and_bounds_the_tenure_once() {
    let (mut tenure, start) = tenure();
    tenure.sending(start);
    tenure.written(handed_over(6), start, after(start, 100));
    assert!(tenure.handoff_requested());
    for step in 1..20 {
        let sent = after(start, step * 3_000);
        tenure.sending(sent);
        tenure.written(handed_over(6 + step), sent, sent);
    }
    assert_eq!(tenure.fence_at(), after(start, 30_100));
    assert_eq!(tenure.loss_at_fence(), Loss::HandoffOverdue);

    let (mut tenure, start) = self::tenure();
    tenure.sending(start);
    assert_eq!(tenure.refused(Some(handed_over(5)), start), Verdict::Retry);
    assert!(tenure.handoff_requested());
}

use kinesis_core::{Clock, Position};

use super::*;

const TIMING: Timing = Timing {
    failover: Duration::from_secs(10),
    handoff: Duration::from_secs(30),
};

const KCL_FAILOVER: Duration = Duration::from_secs(60);

fn lease(owner: Option<&str>, counter: u64) -> Lease {
    Lease {
        owner: owner.map(str::to_owned),
        counter,
        acquisition: Some("you/1/1".to_owned()),
        ..Lease::new("shardId-000000000000".into(), Position::TrimHorizon)
    }
}

fn handoff(to: &str, from: &str, counter: u64) -> Lease {
    Lease {
        checkpoint_owner: Some(from.to_owned()),
        ..lease(Some(to), counter)
    }
}

struct Scene {
    observer: Observer,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        let observer = Observer::new(TIMING, KCL_FAILOVER);
        Self {
            observer,
            start: Clock::system().now(),
        }
    }

    fn at(&mut self, second: u64, lease: &Lease) -> Standing {
        let now = self.start + Duration::from_secs(second);
        self.observer.scanned(std::slice::from_ref(lease), now);
        self.observer.standing(lease, now)
    }
}

#[test]
fn a_lease_expires_when_its_counter_stands_still_for_the_failover_time() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(0, &lease(Some("you"), 1)), Standing::Active);
    assert_eq!(scene.at(9, &lease(Some("you"), 1)), Standing::Active);
    assert_eq!(scene.at(9, &lease(Some("you"), 2)), Standing::Active);
    assert_eq!(scene.at(18, &lease(Some("you"), 2)), Standing::Active);
    assert_eq!(scene.at(19, &lease(Some("you"), 2)), Standing::Expired);
}

#[test]
fn a_late_read_of_an_older_row_proves_no_life() {
    let mut scene = Scene::new();
    scene.at(0, &lease(Some("you"), 2));
    assert_eq!(scene.at(2, &lease(Some("you"), 1)), Standing::Active);
    assert_eq!(scene.at(4, &lease(Some("you"), 2)), Standing::Active);
    // One of them comes when the time is over; what is known of the newer row says nothing about it.
    scene.at(9, &lease(Some("you"), 2));
    assert_eq!(scene.at(11, &lease(Some("you"), 1)), Standing::Active);
    assert_eq!(scene.at(11, &lease(Some("you"), 2)), Standing::Expired);
}

#[test]
fn a_row_that_was_made_anew_is_another_one_whose_holder_may_live() {
    for (remembered, later) in [(900, 3600), (900, 20), (41, 20), (40, 3600), (40, 31)] {
        let mut scene = Scene::new();
        // As the KCL has them.
        let lease = |counter| Lease {
            acquisition: None,
            ..lease(Some("you"), counter)
        };
        scene.at(0, &lease(remembered));
        // Not looked at for a while; meanwhile it was deleted, made anew, and taken again, by a worker
        // that renews it.
        for counter in 40..50 {
            let at = later + (counter - 40) * 4;
            let row = lease(counter);
            let what = format!("{remembered}, then {counter} at {at}");
            assert_eq!(scene.at(at, &row), Standing::Active, "{what}");
            let now = scene.start + Duration::from_secs(at);
            assert!(!scene.observer.is_unwanted(&row, now), "{what}");
        }
        // It dies.
        let row = lease(49);
        assert_eq!(scene.at(later + 45, &row), Standing::Active);
        assert_eq!(scene.at(later + 46, &row), Standing::Expired);
    }
}

#[test]
fn a_row_that_was_made_anew_with_the_counter_it_had_is_told_by_its_mark() {
    let mut scene = Scene::new();
    scene.at(0, &lease(Some("you"), 3));
    let anew = Lease {
        acquisition: Some("you/1/2".to_owned()),
        ..lease(Some("you"), 3)
    };
    assert_eq!(scene.at(12, &anew), Standing::Active);
    assert_eq!(scene.at(22, &anew), Standing::Expired);
}

#[test]
fn what_stands_still_under_one_mark_was_not_made_anew_however_long_ago_it_was_seen() {
    let mut scene = Scene::new();
    scene.at(0, &lease(Some("you"), 3));
    assert_eq!(scene.at(60, &lease(Some("you"), 3)), Standing::Expired);
}

#[test]
fn a_handoff_of_a_row_that_was_made_anew_is_not_that_of_before() {
    let mut scene = Scene::new();
    for at in 1..30 {
        scene.at(at, &handoff("me", "you", 100 + at));
    }
    let first = 35;
    for at in first..first + 40 {
        let row = handoff("me", "you", at);
        assert_eq!(scene.at(at, &row), Standing::Active, "at {at}");
    }
    let row = handoff("me", "you", first + 40);
    assert_eq!(scene.at(first + 40, &row), Standing::Overdue);
}

#[test]
fn a_handoff_that_begins_does_not_prove_life() {
    let mut scene = Scene::new();
    scene.at(0, &lease(Some("you"), 1));
    assert_eq!(scene.at(6, &handoff("me", "you", 1)), Standing::Active);
    assert_eq!(scene.at(10, &handoff("me", "you", 1)), Standing::Expired);
}

#[test]
fn what_was_given_to_this_worker_is_told_by_who_marked_it_last() {
    let marked = |mark: Option<&str>| Lease {
        acquisition: mark.map(str::to_owned),
        ..lease(Some("me"), 2)
    };
    let given = |lease: &Lease| is_given(lease, "me", "me/2/");
    assert!(given(&marked(None)), "by a leader, or a KCL had it");
    assert!(given(&marked(Some("you/1/7"))), "handed over");
    assert!(given(&marked(Some("me/too/1/7"))), "by a namesake in part");
    assert!(given(&marked(Some("me/2/7"))), "taken, and the answer lost");
    assert!(
        !given(&marked(Some("me/1/7"))),
        "an earlier process may live"
    );
    assert!(!given(&lease(Some("you"), 2)));
    assert!(!given(&handoff("me", "you", 2)), "the old owner works");
}

#[test]
fn an_overdue_handoff_is_free_and_later_unwanted() {
    let mut scene = Scene::new();
    scene.at(0, &lease(Some("you"), 1));
    for second in 1..41 {
        let row = handoff("them", "you", second);
        assert_eq!(scene.at(second, &row), Standing::Active, "at {second}");
    }
    for second in 41..51 {
        let row = handoff("them", "you", second);
        assert_eq!(scene.at(second, &row), Standing::Overdue, "at {second}");
        let now = scene.start + Duration::from_secs(second);
        assert!(!scene.observer.is_unwanted(&row, now), "at {second}");
    }
    let row = handoff("them", "you", 51);
    scene.at(51, &row);
    let now = scene.start + Duration::from_secs(51);
    assert!(scene.observer.is_unwanted(&row, now));
}

#[test]
fn a_holder_is_at_work_once_it_was_seen_renewing() {
    let mut scene = Scene::new();
    let row = lease(Some("you"), 1);
    scene.at(0, &row);
    assert!(!scene.observer.is_at_work(&row));
    let row = lease(Some("you"), 2);
    scene.at(4, &row);
    assert!(scene.observer.is_at_work(&row));
    // Given to somebody else, who may not know of it yet.
    let row = lease(Some("them"), 3);
    scene.at(5, &row);
    assert!(!scene.observer.is_at_work(&row));
}

#[test]
fn a_second_handoff_between_the_same_workers_has_its_own_time() {
    let mut scene = Scene::new();
    scene.at(0, &handoff("me", "you", 1));
    let second = |counter| Lease {
        acquisition: Some("you/1/2".to_owned()),
        ..handoff("me", "you", counter)
    };
    // What came between the two was not seen.
    for at in 1..70 {
        let row = if at < 30 {
            handoff("me", "you", at)
        } else {
            second(at)
        };
        assert_eq!(scene.at(at, &row), Standing::Active, "at {at}");
    }
    assert_eq!(scene.at(70, &second(70)), Standing::Overdue);
}

#[test]
fn a_free_lease_is_unwanted_after_the_failover_time() {
    let mut scene = Scene::new();
    let row = lease(None, 1);
    scene.at(0, &row);
    let at = |second| scene.start + Duration::from_secs(second);
    assert!(!scene.observer.is_unwanted(&row, at(9)));
    assert!(scene.observer.is_unwanted(&row, at(10)));
    let owned = lease(Some("you"), 1);
    assert!(!scene.observer.is_unwanted(&owned, at(19)));
    assert!(scene.observer.is_unwanted(&owned, at(20)));
}

#[test]
fn a_dead_lease_without_a_mark_expires_though_the_scans_are_slow() {
    let dead = Lease {
        acquisition: None,
        ..lease(Some("you"), 2)
    };
    let mut scene = Scene::new();
    let standings: Vec<_> = (0..4).map(|scan| scene.at(scan * 40, &dead)).collect();
    let (active, expired) = (Standing::Active, Standing::Expired);
    // The first pause may be the only one of its length.
    assert_eq!(standings, [active, active, expired, expired]);
}

/// A lease without a mark of ours, in a fleet of which `worker` is of a KCL.
fn beside_kcl(worker: &str) -> Scene {
    let mut scene = Scene::new();
    let of_kcl = WorkerStats {
        is_ours: false,
        ..WorkerStats::new(worker, 0)
    };
    scene.observer.told(&[of_kcl, WorkerStats::new("you", 0)]);
    scene
}

#[test]
fn a_lease_that_a_kcl_has_is_left_to_it_for_as_long_as_a_kcl_may_leave_it_alone() {
    // Whoever of ours had it before left its mark.
    for mark in [None, Some("you/1/7".to_owned())] {
        let of_kcl = |owner: &str, counter| Lease {
            acquisition: mark.clone(),
            ..lease(Some(owner), counter)
        };
        let mut scene = beside_kcl("java");
        for beat in 0..4 {
            let row = of_kcl("java", beat);
            assert_eq!(scene.at(beat * 20, &row), Standing::Active);
            assert_eq!(scene.at(beat * 20 + 19, &row), Standing::Active);
        }
        let row = of_kcl("java", 4);
        for second in 80..140 {
            assert_eq!(scene.at(second, &row), Standing::Active, "at {second}");
        }
        assert_eq!(scene.at(140, &row), Standing::Expired);
        let at = |second| scene.start + Duration::from_secs(second);
        assert!(!scene.observer.is_unwanted(&row, at(149)));
        assert!(scene.observer.is_unwanted(&row, at(150)));
    }
}

#[test]
fn a_kcl_in_the_fleet_makes_no_lease_of_ours_wait() {
    for mark in [None, Some("java/1/7"), Some("you/1/7")] {
        let mut scene = beside_kcl("java");
        let row = Lease {
            acquisition: mark.map(str::to_owned),
            ..lease(Some("you"), 1)
        };
        scene.at(0, &row);
        assert_eq!(scene.at(9, &row), Standing::Active);
        assert_eq!(scene.at(10, &row), Standing::Expired, "{mark:?}");
    }
}

#[test]
fn a_kcl_that_hands_over_is_waited_for_also_by_who_knows_no_rows_of_metrics() {
    let from_kcl = |counter| Lease {
        acquisition: None,
        ..handoff("me", "java", counter)
    };
    let mut scene = Scene::new();
    for second in (0..90).step_by(20) {
        let row = from_kcl(second);
        assert_eq!(scene.at(second, &row), Standing::Active, "at {second}");
    }
    assert_eq!(scene.at(89, &from_kcl(80)), Standing::Active);
    assert_eq!(scene.at(90, &from_kcl(80)), Standing::Overdue);
}

/// As an operator asks for it before whoever was given it has taken it.
#[test]
fn a_lease_of_ours_that_is_asked_for_before_it_was_taken_does_not_wait_as_one_of_a_kcl() {
    let row = Lease {
        acquisition: Some("me/1/7".to_owned()),
        ..handoff("released-by-operator", "you", 1)
    };
    let mut scene = beside_kcl("java");
    scene.at(0, &row);
    assert_eq!(scene.at(9, &row), Standing::Active);
    assert_eq!(scene.at(10, &row), Standing::Expired);
}

#[test]
fn a_deleted_row_that_a_kcl_may_have_had_is_nobodys_for_as_long() {
    let made_anew = Lease {
        acquisition: None,
        ..lease(Some(FORMER_OWNER), 0)
    };
    let mut scene = beside_kcl("java");
    for second in 0..60 {
        let standing = scene.at(second, &made_anew);
        assert_eq!(standing, Standing::Active, "at {second}");
    }
    assert_eq!(scene.at(60, &made_anew), Standing::Expired);
    let mut scene = Scene::new();
    scene.at(0, &made_anew);
    assert_eq!(scene.at(10, &made_anew), Standing::Expired);
}

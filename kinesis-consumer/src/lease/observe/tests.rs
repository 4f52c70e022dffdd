use kinesis_core::{Clock, Position};

use super::*;

const TIMING: Timing = Timing {
    failover: Duration::from_secs(10),
    handoff: Duration::from_secs(30),
};

fn lease(owner: Option<&str>, counter: u64) -> Lease {
    Lease {
        owner: owner.map(str::to_owned),
        counter,
        acquisition: Some("other/1".to_owned()),
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
        let observer = Observer::new("me", "mine/", TIMING);
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
    scene.at(5, &lease(Some("you"), 1));
    assert_eq!(scene.at(10, &lease(Some("you"), 2)), Standing::Expired);
}

#[test]
fn a_handoff_that_begins_does_not_prove_life() {
    let mut scene = Scene::new();
    scene.at(0, &lease(Some("you"), 1));
    assert_eq!(scene.at(6, &handoff("me", "you", 1)), Standing::Active);
    assert_eq!(scene.at(10, &handoff("me", "you", 1)), Standing::Expired);
}

#[test]
fn a_completed_handoff_to_this_worker_is_taken_at_once() {
    let mut scene = Scene::new();
    scene.at(0, &lease(Some("you"), 1));
    scene.at(1, &handoff("me", "you", 1));
    assert_eq!(scene.at(2, &lease(Some("me"), 2)), Standing::Assigned);
    assert_eq!(scene.at(4, &lease(Some("me"), 2)), Standing::Assigned);
}

#[test]
fn a_row_with_this_workers_name_from_another_process_has_to_expire() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(0, &lease(Some("me"), 1)), Standing::Active);
    assert_eq!(scene.at(10, &lease(Some("me"), 1)), Standing::Expired);

    // Another process under this name took it: it left its mark.
    let mut scene = Scene::new();
    scene.at(0, &lease(None, 1));
    let taken = Lease {
        acquisition: Some("other/2".to_owned()),
        ..lease(Some("me"), 2)
    };
    assert_eq!(scene.at(1, &taken), Standing::Active);
}

#[test]
fn what_this_process_took_without_knowing_it_is_taken_at_once() {
    let mut scene = Scene::new();
    let mine = Lease {
        acquisition: Some("mine/9".to_owned()),
        ..lease(Some("me"), 2)
    };
    assert_eq!(scene.at(0, &mine), Standing::Assigned);
}

#[test]
fn an_overdue_handoff_is_first_for_its_next_owner_and_then_for_anybody() {
    for (to, due) in [("me", 41), ("them", 51)] {
        let mut scene = Scene::new();
        scene.at(0, &lease(Some("you"), 1));
        for second in 1..due {
            let row = handoff(to, "you", second);
            assert_eq!(scene.at(second, &row), Standing::Active, "{to} at {second}");
        }
        assert_eq!(
            scene.at(due, &handoff(to, "you", due)),
            Standing::Overdue,
            "{to}"
        );
    }
}

#[test]
fn a_second_handoff_between_the_same_workers_has_its_own_time() {
    let mut scene = Scene::new();
    scene.at(0, &handoff("me", "you", 1));
    let second = |counter| Lease {
        acquisition: Some("other/2".to_owned()),
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
fn a_worker_that_gives_leases_back_is_leaving_until_it_takes_one_or_time_passes() {
    let mut scene = Scene::new();
    scene.at(0, &lease(Some("you"), 1));
    assert_eq!(scene.at(1, &lease(None, 2)), Standing::Unowned);
    assert!(scene.observer.is_leaving("you"));
    scene.at(2, &lease(Some("you"), 3));
    assert!(!scene.observer.is_leaving("you"));
    scene.at(3, &lease(None, 4));
    assert!(scene.observer.is_leaving("you"));
    scene.at(13, &lease(None, 4));
    assert!(!scene.observer.is_leaving("you"));
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

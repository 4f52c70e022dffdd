use super::*;
use crate::lease::layout::TableNames;
use crate::lease::tests::rig::{Fault, Rig, TABLE};
use crate::lease::{LeaseSettings, LeaseStore};

/// The pulse of worker `me`, not yet beating.
fn pulse(
    client: aws_sdk_dynamodb::Client,
    settings: &LeaseSettings,
    farewell: &Farewell,
) -> (Pulse, watch::Receiver<View>) {
    Pulse::new(
        &Labels::new(TABLE, "me"),
        LeaseStore::from(client).table(
            &TableNames::of(TABLE),
            settings.failover_time,
            Rand::seeded(3),
        ),
        settings,
        Meters::default(),
        farewell.clone(),
        Clock::system(),
        Rand::seeded(1),
    )
}

/// Who leads from the start and is to lead for `seconds`, whatever `judge` does to its requests.
async fn leads_on(seconds: u64, judge: impl FnMut(&str, &str) -> Fault + Send + 'static) {
    leads_on_and(false, LeaseSettings::default(), seconds, judge).await;
}

/// The same with other settings, leaving after a few seconds perhaps.
async fn leads_on_and(
    leaves: bool,
    settings: LeaseSettings,
    seconds: u64,
    judge: impl FnMut(&str, &str) -> Fault + Send + 'static,
) {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    let client = rig.faulty_by_body(judge);
    let farewell = Farewell::default();
    let (pulse, view) = pulse(client, &settings, &farewell);
    let running = tokio::spawn(pulse.run());
    tokio::time::sleep(Duration::from_secs(3)).await;
    if leaves {
        farewell.leave.cancel();
    }
    for tenth in 30..seconds * 10 {
        let now = Clock::system().now();
        assert!(view.borrow().leads(now), "after {} s", tenth / 10);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let lock = table.lock().await.expect("read").expect("a lock");
    assert_eq!(lock.owner, "me");
    farewell.gone.cancel();
    running.await.expect("no panic").expect("in order");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_beat_was_made_and_failed_leads_on() {
    let mut beats = 0;
    leads_on(40, move |operation, body| {
        let is_beat = operation == "UpdateItem" && body.contains("Leader");
        beats += usize::from(is_beat);
        match beats {
            // The claim is the first; the beat after it fails with all its attempts, the first of
            // which is made.
            2 if is_beat => Fault::LoseAnswer,
            3 | 4 if is_beat => Fault::Drop,
            _ => Fault::None,
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_metrics_nobody_takes_leads_on() {
    leads_on(120, |operation, body| {
        match operation == "UpdateItem" && !body.contains("Leader") {
            true => Fault::Hang,
            false => Fault::None,
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_who_cannot_look_at_the_states_leads_on() {
    leads_on(200, |operation, _| match operation {
        "DescribeTable" => Fault::Hang,
        _ => Fault::None,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_who_leaves_and_whose_row_nobody_deletes_leads_on_until_it_is_gone() {
    // Shorter than the attempts of one call.
    let settings = LeaseSettings {
        leader_lock_duration: Duration::from_secs(4),
        ..LeaseSettings::default()
    };
    leads_on_and(true, settings, 60, |operation, _| match operation {
        "DeleteItem" => Fault::Hang,
        _ => Fault::None,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_one_of_whose_beats_is_never_answered_leads_on_however_long_leases_last() {
    let settings = LeaseSettings {
        failover_time: Duration::from_secs(60 * 60),
        ..LeaseSettings::default()
    };
    let mut beats = 0;
    leads_on_and(false, settings, 60, move |operation, body| {
        beats += usize::from(operation == "UpdateItem" && body.contains("Leader"));
        match beats {
            3 if body.contains("Leader") => Fault::Hang,
            _ => Fault::None,
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_could_not_be_deleted_when_its_worker_left_is_when_it_is_gone() {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    let cut = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_cut = Arc::clone(&cut);
    let client = rig.faulty(move |operation| {
        let cut = is_cut.load(std::sync::atomic::Ordering::Relaxed);
        match operation {
            "DeleteItem" if cut => Fault::Drop,
            _ => Fault::None,
        }
    });
    let farewell = Farewell::default();
    let (pulse, _view) = pulse(client, &LeaseSettings::default(), &farewell);
    let running = tokio::spawn(pulse.run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    farewell.leave.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let rows = async || table.scan(true).await.expect("scans").stats.len();
    assert_eq!(rows().await, 1);
    cut.store(false, std::sync::atomic::Ordering::Relaxed);
    farewell.gone.cancel();
    running.await.expect("no panic").expect("in order");
    assert_eq!(rows().await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_the_row_along_though_the_last_report_did_not_arrive() {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    let hour = Duration::from_secs(3600);
    let claimed = table.claim_lock(&Claim::Absent, "java", "v", hour).await;
    claimed.expect("another worker leads");
    // All that is updated now are reports: the first arrives, the others do not.
    let mut reports = 0;
    let client = rig.faulty(move |operation| {
        reports += usize::from(operation == "UpdateItem");
        match reports {
            2.. if operation == "UpdateItem" => Fault::Drop,
            _ => Fault::None,
        }
    });
    let (settings, farewell) = (LeaseSettings::default(), Farewell::default());
    let (pulse, _view) = pulse(client, &settings, &farewell);
    let running = tokio::spawn(pulse.run());
    tokio::time::sleep(settings.worker_metrics_interval / 2).await;
    let rows = async || table.scan(true).await.expect("scans").stats.len();
    assert_eq!(rows().await, 1);
    tokio::time::sleep(settings.worker_metrics_interval).await;
    farewell.gone.cancel();
    running.await.expect("no panic").expect("in order");
    assert_eq!(rows().await, 0);
}

use super::*;
use crate::lease::LeaseSettings;
use crate::lease::tests::rig::{Fault, Rig};

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
    let (pulse, _view) = Pulse::new(
        "me",
        rig.table_through(&client),
        &settings,
        farewell.clone(),
        Clock::system(),
        Rand::seeded(1),
    );
    let running = tokio::spawn(pulse.run());
    tokio::time::sleep(settings.worker_metrics_interval / 2).await;
    let rows = async || table.scan(true).await.expect("scans").stats.len();
    assert_eq!(rows().await, 1);
    tokio::time::sleep(settings.worker_metrics_interval).await;
    farewell.gone.cancel();
    running.await.expect("no panic").expect("in order");
    assert_eq!(rows().await, 0);
}

use std::sync::atomic::AtomicBool;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::events::Hub;
use crate::lease::tests::rig::{Rig, STREAM};
use crate::settings::InitialPosition;
use crate::stream::Sources;

#[tokio::test(start_paused = true)]
async fn a_listing_that_had_to_wait_long_for_its_turn_makes_no_leases_by_old_rows() {
    for (waits, made) in [(14, Some(2)), (16, None)] {
        let rig = Rig::new(2).await;
        let Sources::One(address) = Sources::from(STREAM) else {
            panic!("one stream");
        };
        let mut survey = Survey::new(&rig.keeper(STREAM));
        rig.table().await;
        let all = Arc::clone(&survey.asker.lists);
        let taken = all.acquire_many(LISTS_AT_ONCE as u32).await.expect("open");
        let source = Source {
            id: None,
            address,
            initial: InitialPosition::Latest,
            consumer_arn: None,
            stop: CancellationToken::new(),
            events: Hub::default().announcer(),
            doubted: AtomicBool::new(false),
        };
        survey.sync(Arc::new(source), Vec::new(), Vec::new(), false);
        sleep(Duration::from_secs(waits)).await;
        drop(taken);
        let Some(Found::Synced(_, synced)) = survey.next().await else {
            panic!("another answer");
        };
        match made {
            Some(leases) => assert_eq!(synced.expect("made"), leases),
            None => assert!(synced.expect_err("too old").kind().is_retryable()),
        }
        let rows = rig.table().await.scan(true).await.expect("scanned");
        assert_eq!(rows.leases.len(), made.unwrap_or(0));
    }
}

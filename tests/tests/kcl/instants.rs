//! What a KCL makes of a lease that is to be read from an instant.

use std::collections::BTreeSet;

use kinesis_consumer::ErrorKind;
use kinesis_consumer::admin::{ChangeResult, ResetTo, Which};
use kinesis_core::ShardId;

use crate::fleet::{Fleet, SHARDS, lease_table};
use crate::rows::text;
use crate::worker::Retrieval;

const FIRST: &str = "shardId-000000000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kcl_never_reads_a_lease_at_an_instant_and_none_is_reset_to_one_where_it_has_been() {
    let fleet = Fleet::start("instants", Retrieval::Polling).await;
    let ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    ours.stop().await.expect("an orderly end");
    let first = Which::Of(BTreeSet::from([FIRST.to_owned()]));
    let reset = async |to| {
        let changes = fleet.admin().reset(&first, to).await?;
        Ok::<_, kinesis_consumer::Error>(changes[0].result)
    };
    // No KCL has been here, so nothing says that one will come.
    let done = reset(ResetTo::AtTimestamp(1)).await;
    assert_eq!(done.expect("reset"), ChangeResult::Done);

    let kcl = fleet.kcl("kcl").await;
    fleet.until_read("kcl", SHARDS - 1).await;
    let fails = async || kcl.log().contains("NullPointerException");
    fleet.until("the KCL to find no instant", fails).await;
    let read = fleet.read_by("kcl", 0);
    assert!(!read.contains(&ShardId::from(FIRST)), "{read:?}");
    let rows = fleet.rows(&lease_table()).await;
    let row = &rows[FIRST];
    assert_eq!(text(row, "checkpoint"), Some("AT_TIMESTAMP"));
    assert_eq!(text(row, "leaseOwner"), Some("kcl"), "it keeps the lease");
    kcl.kill().await;

    let refused = reset(ResetTo::AtTimestamp(1)).await;
    let refused = refused.expect_err("a KCL has been here");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("worker kcl"), "{refused}");
    let done = reset(ResetTo::TrimHorizon).await;
    assert_eq!(done.expect("reset"), ChangeResult::Done);
    let kcl = fleet.kcl("kcl-again").await;
    fleet.until_read("kcl-again", SHARDS).await;
    kcl.stop().await;
}

use super::*;
use crate::lease::tests::rig::{Fault, Rig, TABLE};

#[test]
fn only_a_condition_that_failed_says_that_a_row_was_changed() {
    assert_eq!(cancellation(&["ConditionalCheckFailed", "None"]), None);
    assert_eq!(
        cancellation(&["ThrottlingError", "ConditionalCheckFailed"]),
        None
    );
    for code in [
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    ] {
        assert_eq!(cancellation(&["None", code]), Some(ErrorKind::Throttled));
    }
    let invalid = Some(ErrorKind::InvalidInput);
    assert_eq!(cancellation(&["ValidationError", "None"]), invalid);
    assert_eq!(cancellation(&[]), Some(ErrorKind::Throttled));
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_move_is_throttled_for_a_while_is_moved_all_the_same() {
    // The SDK's own attempts are three for each of ours.
    for (throttled, is_moved) in [(12, true), (usize::MAX, false)] {
        let rig = Rig::new(1).await;
        rig.table().await;
        let lease = Lease::new(ShardId::from_index(0), kinesis_core::Position::TrimHorizon);
        rig.put(item::new_item(&lease)).await;
        let mut left = throttled;
        let client = rig.faulty(move |operation| match operation {
            "TransactWriteItems" if left > 0 => {
                left -= 1;
                Fault::Throttle
            }
            _ => Fault::None,
        });
        let moved = item::new_item(&Lease {
            shard_id: ShardId::from_index(1),
            ..lease.clone()
        });
        let rows = Rows::new(client, TableNames::of(TABLE));
        let done = rows.rekey(&lease, &moved).await;
        assert_eq!(done.is_ok_and(|done| done), is_moved, "{throttled}");
        assert_eq!(rig.item(0).await.is_empty(), is_moved);
        assert_eq!(rig.item(1).await.is_empty(), !is_moved);
    }
}

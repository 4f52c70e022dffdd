//! What the tests of leases share, and the simulation of many workers.

mod cost;
pub(super) mod rig;
mod simulation;

#[test]
fn a_worker_is_not_called_as_a_row_of_the_table_is_or_as_nobody() {
    let stream = "123456789012:orders:1767225600:shardId-000000000003";
    let rows = [
        "Leader",
        "Migration3.0",
        "TableMigration3.5",
        "shardId-000000000003",
        stream,
        "unknown-former-owner",
        "released-by-operator",
    ];
    for key in rows {
        assert!(super::is_reserved(key), "{key}");
    }
    for worker in ["leader", "ip-10-0-0-7:worker", "shardId-a", "a"] {
        assert!(!super::is_reserved(worker), "{worker}");
    }
}

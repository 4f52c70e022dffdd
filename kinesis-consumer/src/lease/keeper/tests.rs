mod doubts;
mod failover;
mod holding;
mod kcl;
mod leaving;
mod listed;
mod rows;
mod sharing;
mod slow;
mod states;
mod tables;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_core::Position;
use tokio::time::sleep;

use super::*;
use crate::discover;
use crate::lease::item;
use crate::lease::tests::rig::{Fault, OnHandoff, Rig, STREAM, Worker, until};
use crate::lease::{ChildShard, Lease};

fn at(number: u64) -> Position {
    Position::parse(&number.to_string(), 0).expect("a sequence number")
}

fn seconds_since(start: Instant) -> f64 {
    Clock::system().now().duration_since(start).as_secs_f64()
}

/// Two workers with four leases each.
async fn pair(rig: &Rig) -> (Worker, Worker) {
    let (a, b) = (rig.worker("a"), rig.worker("b"));
    until("four each", &[&a, &b], || a.count() == 4 && b.count() == 4).await;
    (a, b)
}

/// The worker of two that leads, and the other one.
async fn leader_first(rig: &Rig, (a, b): (Worker, Worker)) -> (Worker, Worker) {
    let table = rig.table().await;
    let leader = table.lock().await.expect("read").expect("a leader").owner;
    if leader == "a" { (a, b) } else { (b, a) }
}

/// Streams of one shard each.
async fn create_streams(rig: &Rig, names: impl IntoIterator<Item = String>) -> Vec<StreamSource> {
    let mut sources = Vec::new();
    for name in names {
        let create = rig.kinesis.create_stream().stream_name(&name);
        create.shard_count(1).send().await.expect("created");
        sources.push(StreamSource::new(name));
    }
    sources
}

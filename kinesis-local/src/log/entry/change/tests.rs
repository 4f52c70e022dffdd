//! Every kind of change there and back.

use super::*;
use crate::stream::Mode;
use crate::stream::distribution::Distribution;

fn changes() -> Vec<Change> {
    let text = |text: &str| text.to_owned();
    vec![
        Change::Tags {
            consumer: None,
            set: [(text("k"), text("v")), (text("ü"), text(""))].into(),
            removed: vec![],
        },
        Change::Tags {
            consumer: Some(text("fan-out")),
            set: [].into(),
            removed: vec![text("a"), text("b")],
        },
        Change::Retention { hours: 8760 },
        Change::Scale {
            steps: vec![
                Step::Split {
                    shard: 3,
                    key: HashKey(1 << 100),
                },
                Step::Merge {
                    shard: 4,
                    adjacent: 5,
                },
            ],
        },
        Change::Mode {
            mode: Mode::Provisioned,
            warm: None,
        },
        Change::Mode {
            mode: Mode::OnDemand,
            warm: Some(warming()),
        },
        Change::Warm(warming()),
        Change::Demand {
            steps: vec![Step::Merge {
                shard: 4,
                adjacent: 5,
            }],
        },
        Change::Encryption {
            key: text("alias/a"),
        },
        Change::Encryption { key: text("") },
        Change::Monitoring(Metrics(0b101)),
        Change::RecordSize {
            max_bytes: 10 << 20,
        },
        Change::Distribution(Distribution::Auto),
        Change::Policy {
            holder: Holder::Consumer(text("c")),
            document: None,
        },
        Change::Policy {
            holder: Holder::Stream,
            document: Some("x".repeat(20 * 1024)),
        },
        Change::Policy {
            holder: Holder::Queue(7),
            document: Some(text("{}")),
        },
    ]
    .into_iter()
    .chain(attached_changes())
    .collect()
}

fn warming() -> Warming {
    Warming {
        target_mibps: 10_240,
        steps: vec![Step::Merge {
            shard: 4,
            adjacent: 5,
        }],
    }
}

fn attached_changes() -> impl Iterator<Item = Change> {
    let queues = queue::tests::changes().into_iter();
    let queues = queues.map(|change| Change::Queue { id: 7, change });
    let channels = channel::tests::changes().into_iter();
    queues.chain(channels.map(|change| Change::Channel { id: 8, change }))
}

#[test]
fn every_change_decodes_to_what_was_encoded_and_a_part_of_it_does_not() {
    for change in changes() {
        let mut encoded = Vec::new();
        encode(&change, &mut encoded);
        let mut bytes = Bytes::from(encoded.clone());
        assert_eq!(decode(&mut bytes).unwrap(), change);
        assert!(bytes.is_empty(), "{change:?}");
        for cut in 0..encoded.len() {
            let mut part = Bytes::from(encoded[..cut].to_vec());
            assert_eq!(
                decode(&mut part),
                Err(Unreadable),
                "{change:?} cut at {cut}"
            );
        }
    }
}

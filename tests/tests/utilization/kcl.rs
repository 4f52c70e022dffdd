//! A worker of the KCL as the lease table sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_core::Clock;
use tests::world::APPLICATION;

use crate::REPORTS;

/// What a KCL worker does with the table, without reading a record: it renews what it was given, tells what
/// that delivers, hands over what it is asked for, and writes its row as the KCL 3.5 writes it.
pub(crate) struct Kcl {
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) clock: Clock,
    pub(crate) cpu: Vec<f64>,
}

impl Kcl {
    const NAME: &str = "java";
    /// Percent of its CPU for each lease.
    const PER_LEASE: usize = 10;

    pub(crate) async fn work(mut self) {
        for second in 0_u64.. {
            let leases = self.renew(second % 3 == 0).await;
            if second % REPORTS.as_secs() == 0 {
                self.report(leases).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn own(item: &BTreeMap<String, AttributeValue>, attribute: &str) -> bool {
        let name = item.get(attribute).and_then(|name| name.as_s().ok());
        name.is_some_and(|name| name == Self::NAME)
    }

    /// How many leases it has.
    async fn renew(&self, due: bool) -> usize {
        let scan = self.dynamodb.scan().table_name(APPLICATION).send().await;
        let items = scan.map(|answer| answer.items.unwrap_or_default());
        let mut leases = 0;
        for item in items.unwrap_or_default() {
            let item: BTreeMap<_, _> = item.into_iter().collect();
            let hands_over = Self::own(&item, "checkpointOwner");
            let holds = Self::own(&item, "leaseOwner") && !item.contains_key("checkpointOwner");
            leases += usize::from(hands_over || holds);
            let what = match (hands_over, holds && due) {
                (true, _) => "REMOVE checkpointOwner ADD leaseCounter :one",
                (false, true) => "SET throughputKBps = :kbps ADD leaseCounter :one",
                (false, false) => continue,
            };
            let update = self.dynamodb.update_item().table_name(APPLICATION);
            let mut update = update
                .key("leaseKey", item["leaseKey"].clone())
                .update_expression(what)
                .condition_expression("leaseCounter = :seen")
                .expression_attribute_values(":seen", item["leaseCounter"].clone())
                .expression_attribute_values(":one", AttributeValue::N("1".into()));
            if !hands_over {
                let kbps = AttributeValue::N("10".into());
                update = update.expression_attribute_values(":kbps", kbps);
            }
            // What was overtaken is seen at the next look.
            drop(update.send().await);
        }
        leases
    }

    async fn report(&mut self, leases: usize) {
        self.cpu.push((leases * Self::PER_LEASE) as f64);
        self.cpu.drain(..self.cpu.len().saturating_sub(10));
        let number = |value: String| AttributeValue::N(value);
        let map = |of: Vec<AttributeValue>| {
            AttributeValue::M([("C".to_owned(), AttributeValue::L(of))].into())
        };
        let now = number((self.clock.epoch_millis() / 1_000).to_string());
        let values = self.cpu.iter().map(|cpu| number(format!("{cpu:.1}")));
        let put = self.dynamodb.put_item().table_name(APPLICATION);
        let put = put
            .item("leaseKey", AttributeValue::S(Self::NAME.into()))
            .item(
                "entityType",
                AttributeValue::S("WORKER_METRIC_STATS".into()),
            )
            .item("lut", now.clone())
            .item("sts", map(values.collect()))
            .item("opr", map(vec![number("100".into())]))
            .item("sup", number("1".into()))
            .item("slu", now)
            .send()
            .await;
        // There is no table before the first of ours.
        drop(put);
    }
}

//! EnableEnhancedMonitoring and DisableEnhancedMonitoring: which metrics of its shards a stream
//! says that it has. Deliberately absent: the metrics.

use std::sync::Arc;

use serde::Deserialize;

use super::{Inner, Reply};
use crate::stream::change::Change;
use crate::stream::monitoring::{ALL, METRICS, Metrics};
use crate::wire::Body;
use crate::wire::constraint::{Constraints, at_least_long, at_most_long, enum_value};
use crate::wire::fault::Fault;
use crate::wire::read::{List, Text, decode};
use crate::wire::write::{Encode, Writer};

/// EnableEnhancedMonitoring and DisableEnhancedMonitoring.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct MonitoringRequest<'a> {
    stream_name: Option<Text<'a>>,
    shard_level_metrics: Option<List<Text<'a>>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

#[derive(Debug)]
struct MonitoringAnswer {
    name: Arc<str>,
    arn: String,
    /// Before the operation, and after.
    current: Metrics,
    desired: Metrics,
}

impl Encode for MonitoringAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("StreamName");
            writer.plain(&self.name);
            writer.key("CurrentShardLevelMetrics");
            writer.list(self.current.names(), Writer::plain);
            writer.key("DesiredShardLevelMetrics");
            writer.list(self.desired.names(), Writer::plain);
            writer.key("StreamARN");
            writer.plain(&self.arn);
        });
    }
}

impl Inner {
    pub(super) async fn enable_enhanced_monitoring(&self, body: Body<'_>) -> Result<Reply, Fault> {
        self.change_monitoring(body, Metrics::with).await
    }

    pub(super) async fn disable_enhanced_monitoring(&self, body: Body<'_>) -> Result<Reply, Fault> {
        self.change_monitoring(body, Metrics::without).await
    }

    async fn change_monitoring(
        &self,
        body: Body<'_>,
        change: impl Fn(Metrics, Metrics) -> Metrics,
    ) -> Result<Reply, Fault> {
        let request: MonitoringRequest<'_> = decode(body)?;
        check(&request)?;
        self.check_writable()?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let named = request.shard_level_metrics.unwrap_or_default().0;
        let named = Metrics::named(named.iter().map(|name| &**name));
        let (ticket, answer) = {
            let mut stream = cell.write();
            self.check_active(&stream, &cell)?;
            let current = stream.metrics;
            let desired = change(current, named);
            let answer = MonitoringAnswer {
                name: Arc::clone(&cell.name),
                arn: cell.arn(),
                current,
                desired,
            };
            let ticket = self.change(&cell, &mut stream, Change::Monitoring(desired))?;
            (ticket, answer)
        };
        self.stored(ticket).await?;
        Ok(Reply::to(body, &answer))
    }
}

fn check(request: &MonitoringRequest<'_>) -> Result<(), Fault> {
    const PATH: &str = "shardLevelMetrics";
    let own = |constraints: &mut Constraints| {
        constraints.present(request.shard_level_metrics.is_some(), PATH);
        let Some(List(names)) = &request.shard_level_metrics else {
            return;
        };
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let shown = format!("[{}]", names.join(", "));
        constraints.check(!names.is_empty(), PATH, &shown, at_least_long(1));
        let few = names.len() <= METRICS.len();
        constraints.check(few, PATH, &shown, at_most_long(METRICS.len()));
        let known = |name: &&str| *name == ALL || METRICS.contains(name);
        let all: Vec<&str> = METRICS.into_iter().chain([ALL]).collect();
        let text = format!("Member must satisfy constraint: [{}]", enum_value(&all));
        constraints.check(names.iter().all(known), PATH, &shown, text);
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}

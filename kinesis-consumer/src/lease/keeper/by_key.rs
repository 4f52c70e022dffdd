//! Which stream a lease belongs to, by its key: for hundreds of streams and thousands of leases, and so
//! without a look at each stream for each lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinesis_core::ShardId;

use crate::lease::Lease;
use crate::lease::table::Rows;
use crate::stream::{Source, StreamId};

/// The streams that are read, by their ids, which the keys of their leases begin with.
#[derive(Debug, Default)]
pub(crate) struct ByKey(BTreeMap<Arc<str>, Arc<Source>>);

impl ByKey {
    /// These streams. Of several of one id, as by its name and by its ARN, the first one counts.
    pub(crate) fn new<'a>(sources: impl IntoIterator<Item = &'a Arc<Source>>) -> Self {
        let mut by_key = Self::default();
        sources.into_iter().for_each(|source| by_key.add(source));
        by_key
    }

    pub(crate) fn add(&mut self, source: &Arc<Source>) {
        let entry = self.0.entry(source.id_text());
        entry.or_insert_with(|| Arc::clone(source));
    }

    /// The stream that a lease belongs to.
    pub(crate) fn get(&self, key: &ShardId) -> Option<&Arc<Source>> {
        self.0.get(StreamId::text_of_key(key))
    }

    /// Leaves only the rows of these streams; how many leases went.
    pub(crate) fn own(&self, rows: &mut Rows) -> usize {
        let all = rows.leases.len();
        rows.leases
            .retain(|lease| self.get(&lease.shard_id).is_some());
        rows.corrupt.retain(|row| self.get(&row.shard_id).is_some());
        all - rows.leases.len()
    }
}

/// Those of `leases`, in the order of their keys and all of streams that are read, that belong to `source`:
/// they lie side by side, since their keys begin alike.
pub(crate) fn of_stream<'a>(leases: &'a [Lease], source: &Source) -> &'a [Lease] {
    let Some(id) = &source.id else {
        return leases;
    };
    let prefix = id.key_prefix();
    let begin = leases.partition_point(|lease| lease.shard_id.as_str() < prefix.as_str());
    let rest = leases.get(begin..).unwrap_or_default();
    let end = rest.partition_point(|lease| lease.shard_id.as_str().starts_with(&prefix));
    rest.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kinesis_core::Position;

    use super::*;

    fn source(id: Option<&str>) -> Arc<Source> {
        Arc::new(Source::named(id.map(|id| id.parse().expect("an id"))))
    }

    fn leases<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<Lease> {
        let lease = |key: &str| Lease::new(key.into(), Position::TrimHorizon);
        let mut leases: Vec<_> = keys.into_iter().map(lease).collect();
        leases.sort_unstable_by(|a, b| a.shard_id.cmp(&b.shard_id));
        leases
    }

    fn keys(leases: &[Lease]) -> Vec<&str> {
        leases.iter().map(|lease| lease.shard_id.as_str()).collect()
    }

    /// Names and instants that begin alike, of which some sort before the character behind them.
    const IDS: [&str; 6] = [
        "123456789012:a:1767225600",
        "123456789012:a:17672256000",
        "123456789012:a-b:1767225600",
        "123456789012:a.b:1767225600",
        "123456789012:ab:1767225600",
        "123456789013:a:1767225600",
    ];

    #[test]
    fn each_stream_has_the_leases_whose_keys_begin_with_its_id_and_no_other() {
        let shards = ["shardId-000000000000", "shardId-000000000011"];
        let all = IDS.map(|id| shards.map(|shard| format!("{id}:{shard}")));
        let mut rows = Rows {
            leases: leases(all.iter().flatten().map(String::as_str)),
            ..Rows::default()
        };
        for (id, expected) in IDS.iter().zip(&all) {
            let source = source(Some(id));
            assert_eq!(keys(of_stream(&rows.leases, &source)), expected);
            let by_key = ByKey::new([&source]);
            let found = |lease: &Lease| by_key.get(&lease.shard_id).is_some();
            let found: Vec<_> = rows.leases.iter().filter(|lease| found(lease)).collect();
            assert_eq!(found.len(), 2, "{id}");
        }
        let absent = source(Some("123456789012:aa:1"));
        assert!(of_stream(&rows.leases, &absent).is_empty());
        let read = [source(Some(IDS[0])), source(Some(IDS[4]))];
        assert_eq!(ByKey::new(&read).own(&mut rows), 8);
        assert_eq!(
            keys(&rows.leases),
            [&all[0][0], &all[0][1], &all[4][0], &all[4][1]]
        );
    }

    #[test]
    fn a_single_stream_has_the_leases_without_an_id() {
        let single = source(None);
        let of_other = format!("{}:shardId-000000000000", IDS[0]);
        let mut rows = Rows {
            leases: leases(["shardId-000000000000", "shardId-000000000001", &of_other]),
            ..Rows::default()
        };
        assert_eq!(ByKey::new([&single]).own(&mut rows), 1);
        assert_eq!(keys(of_stream(&rows.leases, &single)), keys(&rows.leases));
        assert_eq!(rows.leases.len(), 2);
    }
}

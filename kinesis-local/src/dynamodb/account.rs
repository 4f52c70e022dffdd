//! Operations about the account and the endpoint: constant answers.

/// The service's default quotas for on-demand tables. Source: DynamoDB quotas, "Throughput default
/// quotas" (per account 80,000 units, per table 40,000).
pub(super) fn limits() -> String {
    serde_json::json!({
        "AccountMaxReadCapacityUnits": 80_000,
        "AccountMaxWriteCapacityUnits": 80_000,
        "TableMaxReadCapacityUnits": 40_000,
        "TableMaxWriteCapacityUnits": 40_000,
    })
    .to_string()
}

/// The endpoint is the one that the caller used. Source for the cache period: what the service
/// answers, one day.
pub(super) fn endpoints(host: &str) -> String {
    serde_json::json!({
        "Endpoints": [{ "Address": host, "CachePeriodInMinutes": 1440 }],
    })
    .to_string()
}

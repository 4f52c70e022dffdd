//! Which shard a record goes to: by its key, or wherever the service likes.

/// How records are spread over the shards.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Distribution {
    /// By the partition key, which has to be there, or the explicit hash key.
    #[default]
    UserPartitionKey,
    /// Evenly, whatever keys there are. Only on-demand streams.
    Auto,
}

/// The strategies' names, in the model's order.
pub(crate) const DISTRIBUTIONS: [&str; 2] = ["AUTO", "USER_PARTITION_KEY"];

impl Distribution {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "AUTO" => Self::Auto,
            _ => Self::UserPartitionKey,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "AUTO",
            Self::UserPartitionKey => "USER_PARTITION_KEY",
        }
    }
}

//! What CreateChannel and UpdateChannel are asked, and whether the API model allows it.

use serde::Deserialize;

use crate::api::attached::STREAMS_PER_LIST_MAX;
use crate::api::tags::check_tags;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Boolean, Integer, List, Structure, Text, TextMap};

/// Fields of a partition. Source: API model.
const PARTITION_FIELDS_MAX: usize = 10;
/// Longest id of a key. Source: API model.
const KEY_ID_MAX_CHARS: usize = 2048;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct CreateChannelRequest<'a> {
    pub(super) channel_name: Option<Text<'a>>,
    #[serde(rename = "ServiceExecutionRoleARN")]
    pub(super) role_arn: Option<Text<'a>>,
    pub(super) stream_configuration_list: Option<List<Structure<StreamConfiguration<'a>>>>,
    #[serde(rename = "S3DestinationConfiguration")]
    pub(super) s3: Option<Structure<S3Destination<'a>>>,
    #[serde(rename = "S3TablesDestinationConfiguration")]
    pub(super) s3_tables: Option<Structure<S3TablesDestination<'a>>>,
    pub(super) encryption_configuration: Option<Structure<EncryptionConfiguration<'a>>>,
    pub(super) tags: Option<TextMap>,
    pub(super) logging_configuration: Option<Structure<LoggingConfiguration<'a>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct StreamConfiguration<'a> {
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: Option<Text<'a>>,
    pub(super) record_configuration: Option<Structure<RecordConfiguration<'a>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct RecordConfiguration<'a> {
    pub(super) record_format_type: Option<Text<'a>>,
    #[serde(rename = "GSRSchemaARN")]
    pub(super) schema_arn: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct S3Destination<'a> {
    pub(super) data_freshness_in_seconds: Option<Integer>,
    #[serde(rename = "DeadLetterQueueS3Configuration")]
    pub(super) dead_letters: Option<Structure<DeadLetterBucket<'a>>>,
    #[serde(rename = "StorageConfiguration")]
    pub(super) storage: Option<Structure<Storage<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct DeadLetterBucket<'a> {
    #[serde(rename = "BucketARN")]
    pub(super) bucket_arn: Option<Text<'a>>,
    pub(super) expected_bucket_owner: Option<Text<'a>>,
    pub(super) error_output_prefix: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct Storage<'a> {
    #[serde(rename = "BucketARN")]
    pub(super) bucket_arn: Option<Text<'a>>,
    pub(super) expected_bucket_owner: Option<Text<'a>>,
    pub(super) output_key_template: Option<Text<'a>>,
    pub(super) storage_class: Option<Text<'a>>,
    pub(super) compression_type: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct S3TablesDestination<'a> {
    #[serde(rename = "DeadLetterQueueS3Configuration")]
    dead_letters: Option<Structure<DeadLetterBucket<'a>>>,
    #[serde(rename = "S3TablesConfigurationList")]
    tables: Option<List<Structure<Table<'a>>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct Table<'a> {
    #[serde(rename = "TableBucketARN")]
    bucket_arn: Option<Text<'a>>,
    namespace: Option<Text<'a>>,
    table_name: Option<Text<'a>>,
    compression_type: Option<Text<'a>>,
    partition_spec: Option<Structure<PartitionSpec<'a>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct PartitionSpec<'a> {
    partition_fields: Option<List<Structure<PartitionField<'a>>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct PartitionField<'a> {
    transform: Option<Text<'a>>,
    source_name: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct EncryptionConfiguration<'a> {
    encryption_type: Option<Text<'a>>,
    pub(super) key_id: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct LoggingConfiguration<'a> {
    pub(super) cloud_watch_logs: Option<Structure<CloudWatchLogs<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct CloudWatchLogs<'a> {
    pub(super) enabled: Option<Boolean>,
    pub(super) log_group_name: Option<Text<'a>>,
    pub(super) log_stream_name: Option<Text<'a>>,
}

/// DescribeChannel, UpdateChannel and DeleteChannel.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct ChannelRequest<'a> {
    #[serde(rename = "ChannelARN")]
    pub(super) channel_arn: Option<Text<'a>>,
    #[serde(rename = "S3DestinationConfiguration")]
    pub(super) s3: Option<Structure<FreshnessUpdate>>,
    #[serde(rename = "S3TablesDestinationConfiguration")]
    pub(super) s3_tables: Option<Structure<FreshnessUpdate>>,
    pub(super) logging_configuration: Option<Structure<LoggingConfiguration<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct FreshnessUpdate {
    pub(super) data_freshness_in_seconds: Option<Integer>,
}

pub(super) fn check_create(request: &CreateChannelRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.channel_name(request.channel_name.as_deref());
    let role = request.role_arn.as_deref();
    constraints.present(role.is_some(), "serviceExecutionRoleARN");
    constraints.role_arn("serviceExecutionRoleARN", role);
    check_streams(&mut constraints, request.stream_configuration_list.as_ref());
    if let Some(Structure(s3)) = &request.s3 {
        check_s3(&mut constraints, s3);
    }
    if let Some(Structure(tables)) = &request.s3_tables {
        check_s3_tables(&mut constraints, tables);
    }
    if let Some(Structure(encryption)) = &request.encryption_configuration {
        let path = "encryptionConfiguration.encryptionType";
        let kind = encryption.encryption_type.as_deref();
        constraints.present(kind.is_some(), path);
        constraints.one_of(path, kind, &["KMS"]);
        let path = "encryptionConfiguration.keyId";
        let key = encryption.key_id.as_deref();
        constraints.present(key.is_some(), path);
        if let Some(key) = key {
            constraints.length(path, key, 1, KEY_ID_MAX_CHARS);
        }
    }
    check_tags(&mut constraints, request.tags.as_ref());
    check_logging(&mut constraints, request.logging_configuration.as_ref());
    constraints.done()
}

fn check_streams(
    constraints: &mut Constraints,
    list: Option<&List<Structure<StreamConfiguration<'_>>>>,
) {
    let path = "streamConfigurationList";
    constraints.present(list.is_some(), path);
    let Some(List(list)) = list else { return };
    constraints.structures(
        path,
        list.len(),
        STREAMS_PER_LIST_MAX,
        "ChannelStreamConfiguration",
    );
    let Some(Structure(first)) = list.first() else {
        return;
    };
    let path = "streamConfigurationList.1.member.streamARN";
    constraints.listed_stream_arn(path, first.stream_arn.as_deref());
    let path = "streamConfigurationList.1.member.recordConfiguration";
    constraints.present(first.record_configuration.is_some(), path);
    if let Some(Structure(record)) = &first.record_configuration {
        let path = "streamConfigurationList.1.member.recordConfiguration.recordFormatType";
        let format = record.record_format_type.as_deref();
        constraints.present(format.is_some(), path);
        constraints.one_of(path, format, &["GSR_JSON", "JSON", "STRING", "BYTE_ARRAY"]);
        let path = "streamConfigurationList.1.member.recordConfiguration.gSRSchemaARN";
        constraints.schema_arn(path, record.schema_arn.as_deref());
    }
}

fn check_s3(constraints: &mut Constraints, s3: &S3Destination<'_>) {
    if let Some(Structure(bucket)) = &s3.dead_letters {
        check_dead_letters(constraints, "s3DestinationConfiguration", bucket);
    }
    let path = "s3DestinationConfiguration.storageConfiguration";
    constraints.present(s3.storage.is_some(), path);
    let Some(Structure(storage)) = &s3.storage else {
        return;
    };
    let arn = storage.bucket_arn.as_deref();
    constraints.bucket_arn(format_args!("{path}.bucketARN"), arn);
    let owner = storage.expected_bucket_owner.as_deref();
    constraints.bucket_owner(format_args!("{path}.expectedBucketOwner"), owner);
    let template = storage.output_key_template.as_deref();
    constraints.key_template(
        "s3DestinationConfiguration.storageConfiguration.outputKeyTemplate",
        template,
    );
    let path = "s3DestinationConfiguration.storageConfiguration.storageClass";
    let classes = ["STANDARD", "INTELLIGENT_TIERING", "GLACIER_IR"];
    constraints.one_of(path, storage.storage_class.as_deref(), &classes);
    let path = "s3DestinationConfiguration.storageConfiguration.compressionType";
    let compression = storage.compression_type.as_deref();
    constraints.present(compression.is_some(), path);
    constraints.one_of(path, compression, &["NONE", "GZIP", "ZSTD"]);
}

fn check_dead_letters(constraints: &mut Constraints, of: &str, bucket: &DeadLetterBucket<'_>) {
    let path = format!("{of}.deadLetterQueueS3Configuration");
    let arn = bucket.bucket_arn.as_deref();
    constraints.bucket_arn(format_args!("{path}.bucketARN"), arn);
    let owner = bucket.expected_bucket_owner.as_deref();
    constraints.bucket_owner(format_args!("{path}.expectedBucketOwner"), owner);
    let prefix = bucket.error_output_prefix.as_deref();
    constraints.error_prefix(format_args!("{path}.errorOutputPrefix"), prefix);
}

fn check_s3_tables(constraints: &mut Constraints, destination: &S3TablesDestination<'_>) {
    let of = "s3TablesDestinationConfiguration";
    let path = format!("{of}.deadLetterQueueS3Configuration");
    constraints.present(destination.dead_letters.is_some(), path);
    if let Some(Structure(bucket)) = &destination.dead_letters {
        check_dead_letters(constraints, of, bucket);
    }
    let path = "s3TablesDestinationConfiguration.s3TablesConfigurationList";
    constraints.present(destination.tables.is_some(), path);
    let Some(List(tables)) = &destination.tables else {
        return;
    };
    constraints.structures(
        path,
        tables.len(),
        STREAMS_PER_LIST_MAX,
        "S3TablesConfiguration",
    );
    let Some(Structure(table)) = tables.first() else {
        return;
    };
    let path = |member| format!("{path}.1.member.{member}");
    constraints.table_bucket_arn(path("tableBucketARN"), table.bucket_arn.as_deref());
    constraints.table_name(path("namespace"), table.namespace.as_deref());
    constraints.table_name(path("tableName"), table.table_name.as_deref());
    let compression = table.compression_type.as_deref();
    constraints.present(compression.is_some(), path("compressionType"));
    let kinds = ["NONE", "ZSTD", "SNAPPY"];
    constraints.one_of(&path("compressionType"), compression, &kinds);
    if let Some(Structure(spec)) = &table.partition_spec {
        let path = path("partitionSpec.partitionFields");
        constraints.present(spec.partition_fields.is_some(), &path);
        if let Some(List(fields)) = &spec.partition_fields {
            constraints.structures(&path, fields.len(), PARTITION_FIELDS_MAX, "PartitionField");
            for (at, Structure(field)) in (1..).zip(fields.iter().take(PARTITION_FIELDS_MAX)) {
                let path = |member| format!("{path}.{at}.member.{member}");
                let transform = field.transform.as_deref();
                constraints.present(transform.is_some(), path("transform"));
                constraints.one_of(&path("transform"), transform, &["TIME_HOUR"]);
                constraints.column(path("sourceName"), field.source_name.as_deref());
            }
        }
    }
}

fn check_logging(
    constraints: &mut Constraints,
    logging: Option<&Structure<LoggingConfiguration<'_>>>,
) {
    let Some(Structure(logging)) = logging else {
        return;
    };
    let path = "loggingConfiguration.cloudWatchLogs";
    constraints.present(logging.cloud_watch_logs.is_some(), path);
    if let Some(Structure(logs)) = &logging.cloud_watch_logs {
        let path = "loggingConfiguration.cloudWatchLogs.enabled";
        constraints.present(logs.enabled.is_some(), path);
        let path = "loggingConfiguration.cloudWatchLogs.logGroupName";
        constraints.log_group(path, logs.log_group_name.as_deref());
        let path = "loggingConfiguration.cloudWatchLogs.logStreamName";
        constraints.log_stream(path, logs.log_stream_name.as_deref());
    }
}

pub(super) fn check_channel(request: &ChannelRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.channel_arn(request.channel_arn.as_deref());
    constraints.done()
}

pub(super) fn check_update(request: &ChannelRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.channel_arn(request.channel_arn.as_deref());
    for (update, path) in [
        (
            &request.s3,
            "s3DestinationConfiguration.dataFreshnessInSeconds",
        ),
        (
            &request.s3_tables,
            "s3TablesDestinationConfiguration.dataFreshnessInSeconds",
        ),
    ] {
        if let Some(Structure(update)) = update {
            constraints.present(update.data_freshness_in_seconds.is_some(), path);
        }
    }
    check_logging(&mut constraints, request.logging_configuration.as_ref());
    constraints.done()
}

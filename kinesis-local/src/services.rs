//! The services behind the port and their data: opened together, closed together.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "dynamodb")]
use crate::dynamodb::DynamoDb;
#[cfg(feature = "s3")]
use crate::s3::S3;

use kinesis_core::{Clock, Rand};

use crate::api::{Buckets, Kinesis, KinesisOptions};
use crate::auth::Auth;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::settings::Settings;
use crate::stream::encryption::KmsKeys;
use crate::stream::lifecycle::Delays;

/// The services of one instance.
pub(crate) struct Services {
    pub(crate) kinesis: Kinesis,
    #[cfg(feature = "dynamodb")]
    pub(crate) dynamodb: DynamoDb,
    #[cfg(feature = "s3")]
    pub(crate) s3: S3,
    /// Who may call; `None`: anybody.
    pub(crate) auth: Option<Arc<Auth>>,
    data_dir: Option<DataDir>,
}

impl Services {
    /// Locks the data directory, if there is one, and opens every service in it. Blocks.
    pub(crate) fn open(
        settings: &Settings,
        auth: Option<Arc<Auth>>,
        clock: Clock,
        rand: Rand,
        single_threaded: bool,
    ) -> Result<Self, Error> {
        #[cfg(not(feature = "dynamodb"))]
        let _concerns_dynamodb = single_threaded;
        let data_dir = match &settings.data_dir {
            Some(directory) => Some(DataDir::open(directory)?),
            None => None,
        };
        let part = |name| data_dir.as_ref().map(|data| data.part(name)).transpose();
        #[cfg(feature = "s3")]
        let s3 = S3::open(part("s3")?)?;
        #[cfg(feature = "s3")]
        let buckets = Buckets::of(s3.clone());
        #[cfg(not(feature = "s3"))]
        let buckets = Buckets::default();
        Ok(Self {
            kinesis: Kinesis::open(KinesisOptions {
                clock: clock.clone(),
                rand: rand.clone(),
                data_dir: part("kinesis")?,
                region: settings.region.clone(),
                account: settings.account.clone(),
                limits: settings.limits.clone(),
                delays: Delays {
                    create: Duration::from_millis(settings.create_delay_ms),
                    delete: Duration::from_millis(settings.delete_delay_ms),
                    update: Duration::from_millis(settings.update_delay_ms),
                },
                auth: auth.clone(),
                kms: KmsKeys::new(settings.kms_keys.clone()),
                buckets,
            })?,
            #[cfg(feature = "dynamodb")]
            dynamodb: DynamoDb::open(part("dynamodb")?.as_deref(), clock, rand, single_threaded)?,
            #[cfg(feature = "s3")]
            s3,
            auth,
            data_dir,
        })
    }

    /// Ends what lasts longer than a request: subscriptions. Flushes the log of records.
    pub(crate) async fn end_subscriptions(&self) {
        self.kinesis.close().await;
    }

    /// Closes the stores and lets another instance use the data directory. To be called when no
    /// request is under way any more.
    pub(crate) async fn close(&self) {
        #[cfg(feature = "dynamodb")]
        self.dynamodb.close().await;
        #[cfg(feature = "s3")]
        self.s3.close().await;
        self.kinesis.seal().await;
        if let Some(data_dir) = &self.data_dir {
            data_dir.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt as _;
    use http::{Request, StatusCode};

    use super::*;

    fn open(settings: &Settings) -> Services {
        Services::open(settings, None, Clock::system(), Rand::seeded(1), false).unwrap()
    }

    fn request(operation: &str, body: &'static str) -> Request<Bytes> {
        Request::post("/")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .header("x-amz-date", "20261123T020000Z")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/kinesis/aws4_request, \
                 SignedHeaders=host, Signature=abc",
            )
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap()
    }

    #[tokio::test]
    async fn the_directory_is_let_go_when_nothing_is_written_to_it_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            data_dir: Some(directory.path().to_owned()),
            ..Settings::default()
        };
        let services = open(&settings);
        let create = r#"{"StreamName":"s","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}"#;
        let created = services.kinesis.call(request("CreateStream", create));
        assert_eq!(created.await.status(), StatusCode::OK);
        let put = || {
            let put = r#"{"StreamName":"s","PartitionKey":"k","Data":"AAAA"}"#;
            services.kinesis.call(request("PutRecord", put))
        };
        for _ in 0..50 {
            // Most are dropped on their way to the disk, as at the deadline of a shutdown.
            drop(put().now_or_never());
        }
        services.close().await;
        let log = directory.path().join("kinesis/changes.log");
        let closed = std::fs::read(&log).unwrap();
        let other = open(&settings);
        assert_eq!(put().await.status(), StatusCode::INTERNAL_SERVER_ERROR);
        other.close().await;
        assert_eq!(std::fs::read(&log).unwrap(), closed);
    }
}

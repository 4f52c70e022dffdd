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
        if let Some(data_dir) = &self.data_dir {
            data_dir.unlock();
        }
    }
}

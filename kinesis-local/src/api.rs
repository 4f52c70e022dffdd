//! Stand-in for the Kinesis service until its own module lands.

use std::path::PathBuf;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use kinesis_core::{Clock, Rand};

use crate::body::ResponseBody;
use crate::error::Error;

/// What the service needs to start.
pub(crate) struct KinesisOptions {
    pub(crate) clock: Clock,
    pub(crate) rand: Rand,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) region: String,
    pub(crate) account: String,
}

/// The Kinesis service.
#[derive(Clone)]
pub(crate) struct Kinesis;

impl Kinesis {
    pub(crate) fn open(options: KinesisOptions) -> Result<Self, Error> {
        drop(options);
        Ok(Self)
    }

    pub(crate) async fn call(&self, _request: Request<Bytes>) -> Response<ResponseBody> {
        crate::route::refusal(StatusCode::BAD_REQUEST, "UnknownOperationException", "")
    }

    pub(crate) async fn close(&self) {}
}

//! What time it is by the service's clock, which alone says what is newer than what in a stream.
//!
//! A worker's own wall clock may be minutes off. An instant ahead of the service's time, stored for
//! "the newest record", would skip whatever comes until then, for all workers. So such instants are
//! taken from the header `Date` of the service's answers, refusals included.
//!
//! The header counts whole seconds: an instant from it is up to a second early, and never late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::{DateTime, Format};

use crate::error::BoxError;

/// Stands for "nobody said".
const UNKNOWN: u64 = 0;

/// Reads the time off the answers of the requests it is put into. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceTime(Arc<AtomicU64>);

impl ServiceTime {
    /// The time of the newest answer, in milliseconds since the Unix epoch; `None` before the first, and
    /// if none of them said.
    pub(crate) fn epoch_millis(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|millis| *millis != UNKNOWN)
    }
}

impl Intercept for ServiceTime {
    fn name(&self) -> &'static str {
        "ServiceTime"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, Format::HttpDate).ok());
        let millis = date.and_then(|date| u64::try_from(date.to_millis().ok()?).ok());
        if let Some(millis) = millis {
            self.0.store(millis, Ordering::Relaxed);
        }
        Ok(())
    }
}

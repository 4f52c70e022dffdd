//! Values in place of bytes.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use kinesis_core::codec::Encode;

use crate::error::Reason;
use crate::{Delivery, DeliveryFuture, Error, Producer, UserRecord};

/// Puts values of type `T` into a producer's stream, each as one record, encoded by the codec `C`.
///
/// The consumer reads them by the same codec: see [`kinesis_core::codec`], which also has the
/// compression. A cheap clone; other values and plain records may go through the same producer.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use kinesis_producer::codec::{Decode, Json};
/// # use kinesis_producer::{Error, Producer};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Flight {
///     origin: String,
///     delay: i32,
/// }
///
/// async fn send(producer: &Producer, flight: &Flight) -> Result<(), Error> {
///     let flights = producer.typed::<Flight>();
///     flights.send(flight.origin.as_str(), flight).await?;
///     Ok(())
/// }
///
/// // What a consumer does with the record's data.
/// let flight: Flight = Json.decode(&r#"{"origin":"JFK","delay":12}"#.into()).unwrap();
/// assert_eq!((flight.origin.as_str(), flight.delay), ("JFK", 12));
/// # }
/// ```
pub struct TypedProducer<T: ?Sized, C> {
    producer: Producer,
    codec: Arc<C>,
    takes: PhantomData<fn(&T)>,
}

impl Producer {
    /// This producer for values that go as JSON.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn typed<T: serde::Serialize + ?Sized>(
        &self,
    ) -> TypedProducer<T, kinesis_core::codec::Json> {
        self.typed_with(kinesis_core::codec::Json)
    }

    /// This producer for values that `codec` encodes, for example compressed JSON:
    /// `Compressed::new(Json, Compression::Zstd)`.
    #[must_use]
    pub fn typed_with<T: ?Sized, C: Encode<T>>(&self, codec: C) -> TypedProducer<T, C> {
        TypedProducer {
            producer: self.clone(),
            codec: Arc::new(codec),
            takes: PhantomData,
        }
    }
}

impl<T: ?Sized, C: Encode<T>> TypedProducer<T, C> {
    /// The record that stands for `value`, for what [`Producer`] has and this type has not: an
    /// explicit hash key, many records at a time, a sink.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`](crate::ErrorKind::InvalidRecord) if the codec refuses the
    /// value; the source is its `CodecError`.
    pub fn record(
        &self,
        partition_key: impl Into<Arc<str>>,
        value: &T,
    ) -> Result<UserRecord, Error> {
        let data = self.codec.encode(value).map_err(|source| {
            let stream = Arc::from(self.producer.stream());
            Error::new(Reason::Value { stream, source })
        })?;
        Ok(UserRecord::new(partition_key, data))
    }

    /// Delivers one value: [`Producer::send`].
    ///
    /// # Errors
    /// As [`Self::record`], and whatever `Producer::send` says.
    ///
    /// # Cancel safety
    /// As `Producer::send`.
    pub async fn send(
        &self,
        partition_key: impl Into<Arc<str>>,
        value: &T,
    ) -> Result<Delivery, Error> {
        let record = self.record(partition_key, value)?;
        self.producer.send(record).await
    }

    /// Hands one value over: [`Producer::enqueue`].
    ///
    /// # Errors
    /// As [`Self::record`], and whatever `Producer::enqueue` says.
    ///
    /// # Cancel safety
    /// As `Producer::enqueue`.
    pub async fn enqueue(
        &self,
        partition_key: impl Into<Arc<str>>,
        value: &T,
    ) -> Result<DeliveryFuture, Error> {
        let record = self.record(partition_key, value)?;
        self.producer.enqueue(record).await
    }

    /// Hands one value over if there is room now: [`Producer::try_send`].
    ///
    /// # Errors
    /// As [`Self::record`], and whatever `Producer::try_send` says.
    pub fn try_send(
        &self,
        partition_key: impl Into<Arc<str>>,
        value: &T,
    ) -> Result<DeliveryFuture, Error> {
        self.producer.try_send(self.record(partition_key, value)?)
    }

    /// The producer behind it.
    #[must_use]
    pub fn producer(&self) -> &Producer {
        &self.producer
    }
}

impl<T: ?Sized, C> Clone for TypedProducer<T, C> {
    fn clone(&self) -> Self {
        Self {
            producer: self.producer.clone(),
            codec: Arc::clone(&self.codec),
            takes: PhantomData,
        }
    }
}

impl<T: ?Sized, C> fmt::Debug for TypedProducer<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedProducer")
            .field("producer", &self.producer)
            .field("value", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}

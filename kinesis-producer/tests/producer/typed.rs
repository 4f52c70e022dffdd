//! Values in, values out, whatever the codec.

use std::error::Error as _;

use kinesis_producer::codec::{CodecError, Compressed, Compression, Decode, Encode, Json};
use kinesis_producer::{ErrorKind, Settings};
use serde::{Deserialize, Serialize};

use crate::world::World;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Flight {
    origin: String,
    delay: i32,
    remarks: String,
}

fn flight(delay: i32, remarks: usize) -> Flight {
    Flight {
        origin: "JFK".to_owned(),
        delay,
        remarks: "late ".repeat(remarks),
    }
}

#[tokio::test(start_paused = true)]
async fn values_are_read_back_by_the_codec_that_wrote_them() {
    let world = World::new(2).await;
    let producer = world.producer(Settings::default());
    let packed = Compressed::new(Json, Compression::Zstd);
    let (plain, compressed) = (
        producer.typed::<Flight>(),
        producer.typed_with::<Flight, _>(packed),
    );
    plain.send("JFK", &flight(1, 0)).await.expect("delivered");
    let later = compressed.enqueue("JFK", &flight(2, 10_000)).await;
    later.expect("accepted").await.expect("delivered");
    let later = compressed.try_send("JFK", &flight(3, 0)).expect("room");
    later.await.expect("delivered");

    let stream = world.read().await;
    let sizes: Vec<_> = stream.records.iter().map(|r| r.record.data.len()).collect();
    assert!(sizes[1] < 1000, "compressed: {sizes:?}");
    let read = stream.records.iter().map(|r| packed.decode(&r.record.data));
    let read: Vec<Flight> = read.collect::<Result<_, _>>().expect("flights");
    assert_eq!(read, [flight(1, 0), flight(2, 10_000), flight(3, 0)]);
}

/// Refuses everything.
struct Never;

impl Encode<Flight> for Never {
    fn encode(&self, _flight: &Flight) -> Result<bytes::Bytes, CodecError> {
        Err(CodecError::encode("nothing", "by script"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_the_codec_refuses_is_an_invalid_record_and_takes_no_room() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let never = producer.typed_with::<Flight, _>(Never);
    let error = never.send("JFK", &flight(1, 0)).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert!(
        error
            .source()
            .is_some_and(|source| source.is::<CodecError>())
    );
    assert_eq!(producer.outstanding().records, 0);
    assert_eq!(world.read().await.kinesis_records, 0);
}

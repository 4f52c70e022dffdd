use super::*;

#[test]
fn a_stream_id_is_what_a_kcl_writes_and_a_key_is_taken_apart_again() {
    let id = StreamId::new("123456789012", "flights", 1_767_225_600).expect("valid");
    assert_eq!(id.to_string(), "123456789012:flights:1767225600");
    assert_eq!((id.account(), id.name()), ("123456789012", "flights"));
    let shard = ShardId::from_index(3);
    let key = id.key(&shard);
    assert_eq!(
        key.as_str(),
        "123456789012:flights:1767225600:shardId-000000000003"
    );
    assert_eq!(StreamId::of_key(&key), Some(id));
    assert_eq!(StreamId::shard_of_key(&key), shard);
    assert_eq!(StreamId::of_key(&shard), None);
    assert_eq!(StreamId::shard_of_key(&shard), shard);
}

#[test]
fn what_is_no_stream_id_is_refused_by_name() {
    for text in [
        "flights",
        "1:flights:2",
        "123456789012:fli ghts:2",
        "123456789012:flights:x",
        "",
    ] {
        let error = text.parse::<StreamId>().expect_err(text);
        assert!(error.to_string().contains("account:name:epoch"), "{error}");
    }
}

#[test]
fn a_stream_is_named_once_by_a_name_or_an_arn() {
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders";
    let streams = Streams::new(["flights", arn].map(StreamSource::new)).expect("valid");
    for (stream, complaint) in [
        ("flights", "read already"),
        ("no stream", "must be a name"),
        (
            "arn:aws:kinesis:eu-west-1:123456789012:channel/x",
            "must be a name",
        ),
    ] {
        let error = streams.add(StreamSource::new(stream)).expect_err(stream);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(complaint), "{error}");
    }
    assert!(streams.remove("flights"));
    assert!(!streams.remove("flights"));
    assert_eq!(streams.list(), [StreamSource::new(arn)]);
}

#[test]
fn a_stream_takes_no_consumer_of_another_stream() {
    let consumer = "arn:aws:kinesis:eu-west-1:123456789012:stream/flights/consumer/c:1";
    let own = "arn:aws:kinesis:eu-west-1:123456789012:stream/flights";
    for stream in ["flights", own] {
        let source = StreamSource::new(stream).consumer_arn(consumer);
        Streams::new([source]).expect(stream);
    }
    let other_account = "arn:aws:kinesis:eu-west-1:999999999999:stream/flights";
    for (stream, arn) in [
        ("orders", consumer),
        (other_account, consumer),
        ("flights", own),
        ("flights", "flights/consumer/c:1"),
    ] {
        let source = StreamSource::new(stream).consumer_arn(arn);
        let error = Streams::new([source]).expect_err("another stream's");
        assert!(error.to_string().contains("consumer_arn of"), "{error}");
    }
}

//! A stream of another account, by its ARN, which the stream's resource policy opens.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use kinesis_core::UserRecord;
use kinesis_local::{KinesisLocal, User, Users};
use kinesis_producer::{ErrorKind, Producer};
use serde_json::json;

const OWNER: &str = "111122223333";
const WRITER: &str = "444455556666";

fn user(name: &str, account: &str) -> User {
    let mut user = User::new(name, format!("AKID{name}"), "a secret");
    user.account = Some(account.to_owned());
    user
}

fn client_of(local: &KinesisLocal, name: &str) -> Client {
    let keys = Credentials::from_keys(format!("AKID{name}"), "a secret", None);
    let config = local.sdk_config().to_builder();
    let config = config.credentials_provider(SharedCredentialsProvider::new(keys));
    Client::new(&config.build())
}

fn flight() -> UserRecord {
    UserRecord::new("JFK", "delayed")
}

#[tokio::test]
async fn a_stream_of_another_account_is_written_by_its_arn_once_its_policy_allows_it() {
    let users = Users::new([user("owner", OWNER), user("writer", WRITER)]);
    let local = KinesisLocal::builder().auth(users).start().await;
    let local = local.expect("kinesis-local");
    let (owner, writer) = (client_of(&local, "owner"), client_of(&local, "writer"));
    let create = owner.create_stream().stream_name("flights").shard_count(2);
    create.send().await.expect("a stream");
    let arn = format!("arn:aws:kinesis:us-east-1:{OWNER}:stream/flights");
    let producer = || Producer::builder(writer.clone(), arn.as_str()).build();

    let refused = producer().expect("an ARN").send(flight()).await;
    let refused = refused.expect_err("nothing allows it");
    assert_eq!(refused.kind(), ErrorKind::AccessDenied);
    assert_eq!(refused.into_record(), Some(flight()));

    let actions = [
        "kinesis:PutRecords",
        "kinesis:ListShards",
        "kinesis:DescribeStreamSummary",
    ];
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": WRITER }, "Action": actions, "Resource": arn,
    }]});
    let put = owner.put_resource_policy().resource_arn(&arn);
    put.policy(policy.to_string())
        .send()
        .await
        .expect("a policy");
    let producer = producer().expect("an ARN");
    assert_eq!(producer.stream(), "flights");
    let delivery = producer.send(flight()).await.expect("delivered");

    let from = owner.get_shard_iterator().stream_name("flights");
    let from = from.shard_id(delivery.shard_id.as_str());
    let from = from.shard_iterator_type("TRIM_HORIZON".into()).send().await;
    let from = from.expect("an iterator").shard_iterator;
    let page = owner.get_records().set_shard_iterator(from).send().await;
    let page = page.expect("records");
    let [record] = page.records() else {
        panic!("one record: {:?}", page.records());
    };
    assert_eq!(
        record.sequence_number(),
        delivery.sequence_number.to_string()
    );
    assert_eq!(record.data().as_ref(), &flight().data[..]);

    // The stream of that name in the writer's own account is another one, and is not there.
    let own = Producer::builder(writer, "flights")
        .build()
        .expect("a name");
    let missing = own.send(flight()).await.expect_err("no such stream");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

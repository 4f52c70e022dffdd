//! Only users may call: real SDK clients with right and wrong keys, over a socket.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(all(feature = "dynamodb", feature = "s3"))]

use std::net::{Ipv4Addr, SocketAddr};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_types::SdkConfig;
use kinesis_local::{ErrorKind, FaultEffect, FaultPlan, FaultRule, KinesisLocal, User, Users};

fn users() -> Users {
    let ann = User::new("ann", "AKIDANN", "ann's secret");
    let mut bob = User::new("bob", "AKIDBOB", "bob's secret");
    bob.account = Some("111122223333".to_owned());
    bob.session_token = Some("bob's token".to_owned());
    Users::new([ann, bob])
}

async fn listening() -> KinesisLocal {
    let builder = KinesisLocal::builder().listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    builder.auth(users()).start().await.unwrap()
}

/// A configuration that signs with these keys and goes through the socket.
fn signed_by(local: &KinesisLocal, key: &str, secret: &str, token: Option<&str>) -> SdkConfig {
    let token = token.map(ToOwned::to_owned);
    let credentials = Credentials::new(key, secret, token, None, "test");
    local
        .sdk_config()
        .to_builder()
        .http_client(HttpClientBuilder::new().build_http())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn told<E: ProvideErrorMetadata>(error: &E) -> (&str, &str) {
    (error.code().unwrap(), error.message().unwrap_or_default())
}

#[tokio::test]
async fn users_are_served_by_their_own_account_and_nobody_else_is() {
    let local = listening().await;
    let ann = signed_by(&local, "AKIDANN", "ann's secret", None);
    let bob = signed_by(&local, "AKIDBOB", "bob's secret", Some("bob's token"));
    for (config, account) in [(&ann, "000000000000"), (&bob, "111122223333")] {
        let kinesis = aws_sdk_kinesis::Client::new(config);
        let create = kinesis.create_stream().stream_name("s").shard_count(1);
        create.send().await.unwrap();
        let summary = kinesis
            .describe_stream_summary()
            .stream_name("s")
            .send()
            .await;
        let summary = summary.unwrap().stream_description_summary.unwrap();
        assert!(
            summary.stream_arn.contains(account),
            "{}",
            summary.stream_arn
        );
        aws_sdk_dynamodb::Client::new(config)
            .list_tables()
            .send()
            .await
            .unwrap();
        aws_sdk_s3::Client::new(config)
            .list_buckets()
            .send()
            .await
            .unwrap();
    }
    const MISMATCH: &str = "The request signature we calculated does not match the signature you \
                            provided. Check your";
    const UNKNOWN: &str = "The security token included in the request is invalid.";
    for (key, secret, token, code, text, s3) in [
        (
            "AKIDANN",
            "a guess",
            None,
            "InvalidSignatureException",
            MISMATCH,
            "SignatureDoesNotMatch",
        ),
        (
            "AKIDEVE",
            "ann's secret",
            None,
            "UnrecognizedClientException",
            UNKNOWN,
            "InvalidAccessKeyId",
        ),
        (
            "AKIDBOB",
            "bob's secret",
            None,
            "UnrecognizedClientException",
            UNKNOWN,
            "InvalidToken",
        ),
        (
            "AKIDBOB",
            "bob's secret",
            Some("?"),
            "UnrecognizedClientException",
            UNKNOWN,
            "InvalidToken",
        ),
        (
            "AKIDANN",
            "ann's secret",
            Some("?"),
            "UnrecognizedClientException",
            UNKNOWN,
            "InvalidToken",
        ),
    ] {
        let config = signed_by(&local, key, secret, token);
        let error = aws_sdk_kinesis::Client::new(&config)
            .list_streams()
            .send()
            .await
            .unwrap_err();
        assert_eq!(told(&error).0, code, "{error:?}");
        assert!(told(&error).1.starts_with(text), "{error:?}");
        let error = aws_sdk_dynamodb::Client::new(&config)
            .list_tables()
            .send()
            .await
            .unwrap_err();
        assert_eq!(told(&error).0, code, "{error:?}");
        let error = aws_sdk_s3::Client::new(&config)
            .list_buckets()
            .send()
            .await
            .unwrap_err();
        assert_eq!(told(&error).0, s3, "{error:?}");
    }
    local.shutdown().await;
}

#[tokio::test]
async fn who_is_not_signed_is_told_so_before_an_error_on_purpose() {
    let local = listening().await;
    let refused = FaultRule::new(FaultEffect::error("Injected"));
    local
        .set_faults(FaultPlan::seeded(1).rule(refused))
        .unwrap();
    for (secret, code, s3_code) in [
        (
            "a guess",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
        ),
        ("ann's secret", "Injected", "Injected"),
    ] {
        let config = signed_by(&local, "AKIDANN", secret, None);
        let kinesis = aws_sdk_kinesis::Client::new(&config).list_streams().send();
        assert_eq!(told(&kinesis.await.unwrap_err()).0, code);
        let tables = aws_sdk_dynamodb::Client::new(&config).list_tables().send();
        assert_eq!(told(&tables.await.unwrap_err()).0, code);
        let buckets = aws_sdk_s3::Client::new(&config).list_buckets().send();
        assert_eq!(told(&buckets.await.unwrap_err()).0, s3_code);
    }
    local.shutdown().await;
}

#[tokio::test]
async fn objects_and_presigned_requests_pass_too() {
    use aws_sdk_s3::presigning::PresigningConfig;
    let local = listening().await;
    let config = signed_by(&local, "AKIDANN", "ann's secret", None);
    let s3 = aws_sdk_s3::Client::new(&config);
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    let object = s3.put_object().bucket("bucket").key("a folder/é+ü.txt");
    object
        .body(aws_sdk_s3::primitives::ByteStream::from_static(b"text"))
        .send()
        .await
        .unwrap();
    let got = s3
        .get_object()
        .bucket("bucket")
        .key("a folder/é+ü.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(&got.body.collect().await.unwrap().into_bytes()[..], b"text");
    let listed = s3
        .list_objects_v2()
        .bucket("bucket")
        .prefix("a folder/")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.contents().len(), 1);
    let expires = PresigningConfig::expires_in(std::time::Duration::from_secs(60)).unwrap();
    let get = s3.get_object().bucket("bucket").key("a folder/é+ü.txt");
    let presigned = get.presigned(expires).await.unwrap();
    let head = http::Request::get(presigned.uri())
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let path = head.uri.path_and_query().unwrap().as_str().to_owned();
    assert_eq!(plain_get(&local, &path).await, "200");
    assert_eq!(
        plain_get(
            &local,
            &path.replace("X-Amz-Expires=60", "X-Amz-Expires=90")
        )
        .await,
        "403"
    );
    assert_eq!(plain_get(&local, "/bucket").await, "403");
    assert_eq!(plain_get(&local, "/_local/health").await, "200");
    local.shutdown().await;
}

/// The status of a GET without any credentials but those in the path.
async fn plain_get(local: &KinesisLocal, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = local.local_addr().unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn users_that_cannot_be_told_apart_are_refused_at_the_start() {
    let mut account = User::new("ann", "A", "s");
    account.account = Some("12".to_owned());
    for (users, named) in [
        (vec![], "users"),
        (
            vec![User::new("ann", "A", "s"), User::new("bob", "A", "t")],
            "access_key_id",
        ),
        (vec![User::new("ann", "A", "")], "secret_access_key"),
        (vec![User::new("ann", "", "s")], "access_key_id"),
        (vec![account], "account"),
    ] {
        let error = KinesisLocal::builder()
            .auth(Users::new(users))
            .start()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        assert!(error.to_string().contains(named), "{error}");
    }
    assert!(
        !format!("{:?}", users()).contains("secret"),
        "no secret in a log"
    );
}

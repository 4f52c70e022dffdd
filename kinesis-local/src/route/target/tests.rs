use http::Request;

use super::*;

fn target(method: &str, uri: &str, headers: &[(&str, &str)]) -> Target {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Target::of(&request.body(()).unwrap().into_parts().0)
}

fn signed(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKID/20260102/us-east-1/{service}/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature=abc"
    )
}

#[test]
fn the_target_header_decides_first() {
    let cases = [
        ("DynamoDB_20120810.PutItem", Target::DynamoDb),
        (
            "DynamoDBStreams_20120810.ListStreams",
            Target::DynamoDbStreams,
        ),
        ("Kinesis_20131202.PutRecord", Target::Kinesis),
        ("Kinesis_20131202.", Target::Kinesis),
        ("", Target::Kinesis),
        (
            "GraniteServiceVersion20100801.PutMetricData",
            Target::Kinesis,
        ),
    ];
    for (header, expected) in cases {
        let s3 = signed("s3");
        assert_eq!(
            target(
                "POST",
                "/",
                &[("x-amz-target", header), ("authorization", &s3)]
            ),
            expected,
            "{header}"
        );
    }
}

#[test]
fn a_kinesis_request_never_reaches_s3() {
    let kinesis = signed("kinesis");
    for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        for uri in [
            "/",
            "/?x=1",
            "/bucket/key",
            "/service/Kinesis_20131202/operation/PutRecord",
        ] {
            let by_target = [("x-amz-target", "Kinesis_20131202.PutRecord")];
            assert_eq!(target(method, uri, &by_target), Target::Kinesis);
            let by_signature = [("authorization", kinesis.as_str())];
            assert_eq!(target(method, uri, &by_signature), Target::Kinesis);
        }
    }
    assert_eq!(target("POST", "/", &[]), Target::Kinesis);
}

#[test]
fn s3_is_known_by_its_signature_in_either_place_or_by_having_none() {
    let s3 = signed("s3");
    assert_eq!(target("GET", "/", &[("authorization", &s3)]), Target::S3);
    let presigned = "/b/k?X-Amz-Algorithm=A&X-Amz-Credential=AKID%2F20260102%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=0";
    assert_eq!(target("PUT", presigned, &[]), Target::S3);
    assert_eq!(target("GET", "/bucket/key", &[]), Target::S3);
    assert_eq!(target("POST", "/bucket?delete", &[]), Target::S3);
    assert_eq!(
        target("GET", "/b/k", &[("authorization", "AWS AKID:signature")]),
        Target::S3
    );
}

#[test]
fn our_own_pages_are_apart_from_buckets() {
    assert_eq!(target("GET", "/_local/health", &[]), Target::Admin);
    assert_eq!(target("GET", "/_localbucket", &[]), Target::S3);
}

//! Clients that send slowly, or never to the end.

use std::time::Duration;

use futures::stream;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::pace::{PIECE_BYTES, PIECE_WAIT};
use super::*;

/// What a client has sent so far, and more when it likes.
type Sender = mpsc::Sender<Bytes>;

const EMPTY: Bytes = Bytes::new();

async fn call(s3: &S3, method: Method, path: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
    let body = body.into();
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-length", body.len());
    let (head, ()) = request.body(()).unwrap().into_parts();
    whole(s3.call(head, Full::new(body)).await).await
}

async fn whole(answer: Response<ResponseBody>) -> (StatusCode, Bytes) {
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, body)
}

/// A request whose body comes piece by piece.
fn slowly(
    s3: &S3,
    path: &str,
    headers: &[(&'static str, &'static str)],
) -> (Sender, JoinHandle<(StatusCode, Bytes)>) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let pieces = stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(piece)), receiver))
    });
    let mut request = Request::put(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let s3 = s3.clone();
    let answer = tokio::spawn(async move {
        let body = StreamBody::new(Box::pin(pieces));
        whole(s3.call(head, body).await).await
    });
    (sender, answer)
}

async fn with_bucket() -> S3 {
    let s3 = S3::open(None).unwrap();
    let (status, _) = call(&s3, Method::PUT, "/bucket", EMPTY).await;
    assert_eq!(status, StatusCode::OK);
    s3
}

/// Begins an upload in parts, and gives its id.
async fn in_parts(s3: &S3, key: &str) -> String {
    let path = format!("/bucket/{key}?uploads");
    let (status, begun) = call(s3, Method::POST, &path, EMPTY).await;
    assert_eq!(status, StatusCode::OK);
    let text = String::from_utf8(begun.to_vec()).unwrap();
    let (_, id) = text.split_once("<UploadId>").unwrap();
    id.split_once("</UploadId>").unwrap().0.to_owned()
}

/// The files beside the buckets.
fn left_over(s3: &S3) -> Vec<String> {
    let entries = std::fs::read_dir(s3.directory()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.contains(".part") || name.starts_with(".tmp"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn who_sends_an_object_slowly_holds_up_nobody_who_works_on_it() {
    let s3 = with_bucket().await;
    let path = "/bucket/key";
    let (pieces, slow) = slowly(&s3, path, &[]);
    pieces.send("sl".into()).await.unwrap();
    pieces.send("o".into()).await.unwrap(); // so the first was taken
    // Each of these would wait until the slow one is cut, if it had the object's turn.
    let others = async {
        let (put, _) = call(&s3, Method::PUT, path, "quick").await;
        let (get, object) = call(&s3, Method::GET, path, EMPTY).await;
        let (head, _) = call(&s3, Method::HEAD, path, EMPTY).await;
        assert_eq!(
            (put, get, head),
            (StatusCode::OK, StatusCode::OK, StatusCode::OK)
        );
        assert_eq!(object, "quick");
        let (delete, _) = call(&s3, Method::DELETE, path, EMPTY).await;
        assert_eq!(delete, StatusCode::NO_CONTENT);
    };
    let waited = tokio::time::timeout(Duration::from_secs(1), others).await;
    waited.expect("nobody waits for the slow one");
    pieces.send("w".into()).await.unwrap();
    drop(pieces);
    assert_eq!(slow.await.unwrap().0, StatusCode::OK);
    let (_, object) = call(&s3, Method::GET, path, EMPTY).await;
    assert_eq!(object, "slow");
    assert!(left_over(&s3).is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_two_slow_writers_who_want_a_new_object_the_first_to_finish_succeeds() {
    let s3 = with_bucket().await;
    let new = [("if-none-match", "*")];
    let (first, one) = slowly(&s3, "/bucket/key", &new);
    let (second, other) = slowly(&s3, "/bucket/key", &new);
    first.send("first".into()).await.unwrap();
    second.send("second".into()).await.unwrap();
    drop(second);
    assert_eq!(other.await.unwrap().0, StatusCode::OK);
    drop(first);
    assert_eq!(one.await.unwrap().0, StatusCode::PRECONDITION_FAILED);
    let (_, object) = call(&s3, Method::GET, "/bucket/key", EMPTY).await;
    assert_eq!(object, "second");
    assert!(left_over(&s3).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stops_or_drips_is_cut_and_leaves_nothing() {
    let s3 = with_bucket().await;
    let id = in_parts(&s3, "key").await;
    let part = format!("/bucket/key?partNumber=1&uploadId={id}");
    for path in ["/bucket/key", part.as_str()] {
        for drip in [None, Some(Bytes::from_static(b"drip"))] {
            let (pieces, answer) = slowly(&s3, path, &[]);
            pieces.send("begin".into()).await.unwrap();
            let clock = kinesis_core::Clock::system();
            let began = clock.now();
            let dripping = tokio::spawn(async move {
                while let Some(drip) = &drip
                    && pieces.send(drip.clone()).await.is_ok()
                {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                pieces.closed().await;
            });
            let (status, text) = answer.await.unwrap();
            assert_eq!(status, StatusCode::BAD_REQUEST);
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.contains("<Code>RequestTimeout</Code>"), "{text}");
            let took = clock.now() - began;
            assert!(took < PIECE_WAIT + Duration::from_secs(1), "{took:?}");
            assert!(left_over(&s3).is_empty());
            dripping.await.unwrap();
        }
    }
    let (status, _) = call(&s3, Method::GET, "/bucket/key", EMPTY).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_comes_steadily_may_take_its_time() {
    let s3 = with_bucket().await;
    let (pieces, answer) = slowly(&s3, "/bucket/key", &[]);
    for _ in 0..10 {
        pieces.send(vec![b'x'; PIECE_BYTES].into()).await.unwrap();
        tokio::time::sleep(PIECE_WAIT - Duration::from_secs(1)).await;
    }
    drop(pieces);
    assert_eq!(answer.await.unwrap().0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_comes_after_its_upload_is_over_is_refused_and_leaves_nothing() {
    let s3 = with_bucket().await;
    let id = in_parts(&s3, "key").await;
    let path = format!("/bucket/key?partNumber=1&uploadId={id}");
    let (pieces, late) = slowly(&s3, &path, &[]);
    pieces.send("one".into()).await.unwrap();
    pieces.send("two".into()).await.unwrap();
    let abort = format!("/bucket/key?uploadId={id}");
    let aborted = call(&s3, Method::DELETE, &abort, EMPTY);
    let aborted = tokio::time::timeout(Duration::from_secs(1), aborted).await;
    assert_eq!(aborted.unwrap().0, StatusCode::NO_CONTENT);
    drop(pieces);
    for answer in [
        late.await.unwrap(),
        call(&s3, Method::PUT, &path, "x").await,
    ] {
        assert_eq!(answer.0, StatusCode::NOT_FOUND);
        let text = String::from_utf8(answer.1.to_vec()).unwrap();
        assert!(text.contains("<Code>NoSuchUpload</Code>"), "{text}");
    }
    assert!(left_over(&s3).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_part_is_taken_only_if_its_checksum_and_its_number_are_right() {
    let s3 = with_bucket().await;
    let id = in_parts(&s3, "key").await;
    for (number, sum, code) in [
        (1, "AAAAAA==", Some("BadDigest")),
        (0, "DUoRhQ==", Some("InvalidArgument")),
        (10_001, "DUoRhQ==", Some("InvalidArgument")),
        (10_000, "DUoRhQ==", None),
    ] {
        let path = format!("/bucket/key?partNumber={number}&uploadId={id}");
        let (pieces, answer) = slowly(&s3, &path, &[("x-amz-checksum-crc32", sum)]);
        // It may be refused before it is read.
        drop(pieces.send("hello world".into()).await);
        drop(pieces);
        let (status, text) = answer.await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        match code {
            Some(code) => assert!(text.contains(&format!("<Code>{code}</Code>")), "{text}"),
            None => assert_eq!(status, StatusCode::OK, "{text}"),
        }
    }
    assert_eq!(left_over(&s3), [format!(".upload_id-{id}.part-10000")]);
}

#[tokio::test(start_paused = true)]
async fn the_condition_on_an_object_of_parts_is_on_the_tag_that_was_given() {
    let s3 = with_bucket().await;
    let id = in_parts(&s3, "key").await;
    let part = format!("/bucket/key?partNumber=1&uploadId={id}");
    assert_eq!(
        call(&s3, Method::PUT, &part, "part").await.0,
        StatusCode::OK
    );
    let complete = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part>\
                    </CompleteMultipartUpload>";
    let path = format!("/bucket/key?uploadId={id}");
    let (status, text) = call(&s3, Method::POST, &path, complete).await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert_eq!(status, StatusCode::OK, "{text}");
    // Of the sum of the part's sum, and how many parts there are; not of the object's bytes.
    const OTHER: &str = "\"fd7bdd06e74ba8ebd2b6d9a4b8b3c4b0-1\"";
    let tag = text.split_once("<ETag>").unwrap().1;
    let tag = tag.split_once("</ETag>").unwrap().0.replace("&quot;", "\"");
    assert!(tag.ends_with("-1\"") && tag.len() == OTHER.len(), "{tag}");
    let tag: &'static str = Box::leak(tag.into_boxed_str());
    for (wanted, status) in [
        (OTHER, StatusCode::PRECONDITION_FAILED),
        (tag, StatusCode::OK),
        (tag, StatusCode::PRECONDITION_FAILED),
    ] {
        let (pieces, answer) = slowly(&s3, "/bucket/key", &[("if-match", wanted)]);
        pieces.send("next".into()).await.unwrap();
        drop(pieces);
        assert_eq!(answer.await.unwrap().0, status);
    }
}

#[test]
fn the_bytes_of_an_object_are_streamed_whatever_its_url_was_signed_with() {
    let is_streamed = |method: Method, uri: &str| {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        super::is_streamed(&request.into_parts().0)
    };
    for query in [
        "",
        "?",
        "?x-id=PutObject",
        "?partNumber=1&uploadId=u",
        "?AWSAccessKeyId=a&Signature=s%2B%3D&Expires=1700000000",
        "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Expires=900\
         &X-Amz-SignedHeaders=host&X-Amz-Signature=s&x-amz-checksum-crc32=AAAAAA%3D%3D\
         &x-amz-sdk-checksum-algorithm=CRC32&x-amz-acl=private&x-amz-meta-a=b",
        "?response-content-type=acl",
    ] {
        let uri = format!("/bucket/folder/key{query}");
        assert!(is_streamed(Method::PUT, &uri), "{uri}");
        assert!(!is_streamed(Method::POST, &uri), "{uri}");
    }
    for beside in [
        "/bucket",
        "/bucket/",
        "/bucket/key?acl",
        "/bucket/key?x-id=PutObjectAcl&acl=",
        "/bucket/key?tagging&versionId=v",
        "/bucket/key?retention",
        "/bucket/key?legal-hold",
        "/bucket/key?torrent",
        "/bucket/key?%61cl", // which s3s reads as the ACL
    ] {
        assert!(!is_streamed(Method::PUT, beside), "{beside}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_counts_as_the_memory_it_takes_and_an_object_does_not() {
    let s3 = with_bucket().await;
    let key = "k".repeat(200);
    for at in 0..100 {
        let path = format!("/bucket/{key}{at}");
        let put = call(&s3, Method::PUT, &path, vec![b' '; 20_000]).await;
        assert_eq!(put.0, StatusCode::OK);
    }
    for (path, is_in_memory) in [
        ("/bucket?list-type=2".to_owned(), true),
        (format!("/bucket/{key}7"), false),
    ] {
        let request = Request::get(path).body(()).unwrap();
        let answer = s3.call(request.into_parts().0, Full::new(EMPTY)).await;
        let counted = answer.body().in_memory();
        let (status, body) = whole(answer).await;
        assert!(status.is_success() && body.len() >= 20_000);
        assert_eq!(counted, if is_in_memory { body.len() } else { 0 });
    }
}

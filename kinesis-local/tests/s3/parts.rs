//! Objects that are uploaded in parts.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_object_is_put_together_from_parts_in_place_of_another() {
    let (_local, client) = with_bucket().await;
    put(&client, "big", "small").await;
    let upload = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("big")
        .send()
        .await
        .unwrap();
    let upload = upload.upload_id().unwrap();
    let mut parts = Vec::new();
    for (number, part) in [(1, vec![b'a'; 5 << 20]), (2, vec![b'b'; 10])] {
        let sent = client
            .upload_part()
            .bucket(BUCKET)
            .key("big")
            .upload_id(upload)
            .part_number(number)
            .body(ByteStream::from(part))
            .send()
            .await
            .unwrap();
        parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag)
                .build(),
        );
    }
    client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("big")
        .upload_id(upload)
        .multipart_upload(
            CompletedMultipartUpload::builder()
                .set_parts(Some(parts))
                .build(),
        )
        .send()
        .await
        .unwrap();
    let object = object(&client, "big").await;
    let bytes = object.body.collect().await.unwrap().into_bytes();
    assert_eq!(bytes.len(), (5 << 20) + 10);
    assert!(bytes.ends_with(&[b'b'; 10]));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_cannot_be_completed_leaves_itself_and_the_object_as_they_were() {
    let (_local, client) = with_bucket().await;
    let put = client.put_object().bucket(BUCKET).key("k");
    let put = put
        .metadata("of", "the old one")
        .body(ByteStream::from_static(b"old"));
    let old = put.send().await.unwrap();
    let upload = client.create_multipart_upload().bucket(BUCKET).key("k");
    let upload = upload.metadata("of", "the new one").send().await.unwrap();
    let upload = upload.upload_id.unwrap();
    let mut tags = Vec::new();
    for (number, part) in [
        (1, vec![b'a'; 5 << 20]),
        (2, vec![b'b'; 10]),
        (7, vec![b'c'; 10]),
    ] {
        let sent = client
            .upload_part()
            .bucket(BUCKET)
            .key("k")
            .upload_id(&upload);
        let sent = sent.part_number(number).body(ByteStream::from(part));
        tags.push((number, sent.send().await.unwrap().e_tag.unwrap()));
    }
    let part = |number: i32, e_tag: &str| {
        let part = CompletedPart::builder().part_number(number);
        part.e_tag(e_tag).build()
    };
    let [one, two, seven] = [0, 1, 2].map(|at: usize| part(tags[at].0, &tags[at].1));
    let complete = async |key: &str, parts: &[&CompletedPart]| {
        let parts = parts.iter().map(|part| (*part).clone()).collect();
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let complete = client.complete_multipart_upload().bucket(BUCKET).key(key);
        let complete = complete.upload_id(&upload).multipart_upload(list.build());
        complete.send().await.map_err(refusal)
    };
    let missing = part(3, tags[1].1.as_str());
    let other = part(2, tags[0].1.as_str());
    for (key, parts, code) in [
        ("k", &[&one, &missing][..], "InvalidPart"),
        ("k", &[&one, &other], "InvalidPart"),
        ("k", &[&two, &one], "InvalidPartOrder"),
        ("k", &[&one, &one], "InvalidPartOrder"),
        ("k", &[&one, &two, &seven], "EntityTooSmall"),
        ("k", &[], "MalformedXML"),
        ("l", &[&one], "NoSuchUpload"),
    ] {
        let refused = complete(key, parts).await.unwrap_err();
        assert_eq!(
            refused,
            (code.to_owned(), 400 + 4 * u16::from(code == "NoSuchUpload"))
        );
        let kept = object(&client, "k").await;
        assert_eq!(kept.metadata().unwrap()["of"], "the old one", "{code}");
        assert_eq!(kept.e_tag, old.e_tag, "{code}");
        assert_eq!(kept.body.collect().await.unwrap().into_bytes(), "old");
    }
    // The numbers of parts may have gaps.
    let whole = complete("k", &[&one, &seven]).await.unwrap();
    let new = object(&client, "k").await;
    assert_eq!(new.metadata().unwrap()["of"], "the new one");
    assert_eq!(new.e_tag, whole.e_tag);
    assert!(new.e_tag.unwrap().ends_with("-2\""));
    assert_eq!(
        new.body.collect().await.unwrap().into_bytes().len(),
        (5 << 20) + 10
    );
    let again = complete("k", &[&one, &seven]).await.unwrap_err();
    assert_eq!(again.0, "NoSuchUpload");
}

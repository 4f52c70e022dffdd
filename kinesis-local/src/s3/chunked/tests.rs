use super::*;

/// Decodes `body` cut into pieces of `step` bytes.
fn decode(
    body: &str,
    length: u64,
    trailer: Option<&str>,
    step: usize,
) -> Result<Vec<u8>, Malformed> {
    let mut decoder = Decoder::new(length, trailer);
    let mut payload = Vec::new();
    for piece in body.as_bytes().chunks(step) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(part) = decoder.next(&mut piece)? {
            payload.extend_from_slice(&part);
        }
    }
    decoder.finish()?;
    Ok(payload)
}

#[test]
fn a_body_is_the_same_however_it_is_cut() {
    let body = "5;chunk-signature=ab\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
    for step in 1..body.len() {
        let payload = decode(body, 11, Some("x-amz-checksum-crc32"), step).unwrap();
        assert_eq!(payload, b"hello world");
    }
}

#[test]
fn an_empty_body_without_trailers_is_fine() {
    assert_eq!(decode("0\r\n\r\n", 0, None, 100).unwrap(), b"");
}

#[test]
fn what_is_not_whole_is_refused() {
    let crc = Some("x-amz-checksum-crc32");
    let cases = [
        (
            "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
            5,
            crc,
            Malformed::Checksum,
        ),
        ("5\r\nhello\r\n0\r\n\r\n", 5, crc, Malformed::Checksum),
        ("5\r\nhello\r\n0\r\n\r\n", 6, None, Malformed::Length),
        ("5\r\nhello\r\n0\r\n\r\n", 4, None, Malformed::Length),
        (
            "5\r\nhel",
            5,
            None,
            Malformed::Framing("it ended before its last chunk"),
        ),
        (
            "x\r\n",
            5,
            None,
            Malformed::Framing("a chunk's length is not a number"),
        ),
        (
            "4\r\nhello\r\n",
            5,
            None,
            Malformed::Framing("a chunk is longer than it says"),
        ),
        (
            "0\r\n\r\nmore",
            0,
            None,
            Malformed::Framing("bytes after the end"),
        ),
    ];
    for (body, length, trailer, expected) in cases {
        assert_eq!(
            decode(body, length, trailer, 100),
            Err(expected),
            "{body:?}"
        );
    }
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let body = "1".repeat(LINE_MAX_BYTES + 1);
    assert_eq!(
        decode(&body, 1, None, 100),
        Err(Malformed::Framing("a line between chunks is too long"))
    );
}

use proptest::prelude::*;

use super::*;

/// Bytes as they are.
#[derive(Copy, Clone, Debug)]
struct Raw;

impl Encode<[u8]> for Raw {
    fn encode(&self, value: &[u8]) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(value))
    }
}

impl Decode<Vec<u8>> for Raw {
    fn decode(&self, data: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(data.to_vec())
    }
}

const BUILT: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

fn flights() -> Vec<u8> {
    r#"{"origin":"JFK","destination":"LAX","delay":12}"#
        .repeat(100)
        .into_bytes()
}

fn read(data: &Bytes) -> Result<Vec<u8>, CodecError> {
    Compressed::plain(Raw).decode(data)
}

#[test]
fn every_compression_shrinks_what_repeats_and_is_read_without_being_told_which() {
    for compression in BUILT {
        let data = Compressed::new(Raw, compression).encode(&flights()[..]);
        let data = data.expect("compressed");
        assert_eq!(&data[..5], [0xd7, 0x4b, 0x5a, 1, method(compression)]);
        assert_eq!(&data[5..9], (flights().len() as u32).to_be_bytes());
        assert!(data.len() * 10 < flights().len(), "{compression:?}");
        assert_eq!(read(&data).expect("readable"), flights());
    }
}

/// The layout is a promise to readers that were built earlier, and in other languages.
#[test]
fn envelopes_of_version_1_stay_readable() {
    let stored = [&[0xd7, 0x4b, 0x5a, 1, 0, 0, 0, 0, 2][..], b"hi"].concat();
    assert_eq!(read(&stored.into()).expect("stored"), b"hi");
    // `gzip.compress(b"aaaaaaaaaa", 9, mtime=0)` of Python.
    let gzip = b"\xd7\x4b\x5a\x01\x01\x00\x00\x00\x0a\
        \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03KL\x84\x01\x00\xf0\xcd\x11L\x0a\x00\x00\x00";
    assert_eq!(
        read(&Bytes::from_static(gzip)).expect("gzip"),
        b"aaaaaaaaaa"
    );
}

#[test]
fn what_does_not_shrink_goes_as_it_is_unless_it_looks_like_an_envelope() {
    for codec in BUILT
        .map(|compression| Compressed::new(Raw, compression))
        .into_iter()
        .chain([Compressed::plain(Raw)])
    {
        assert_eq!(&codec.encode(&b"JFK"[..]).expect("short")[..], b"JFK");
        let sealed = codec.encode(&MARK[..]).expect("stored");
        assert_eq!(sealed.len(), HEADER_BYTES + MARK.len());
        assert_eq!(read(&sealed).expect("readable"), MARK);
    }
}

#[test]
fn a_body_is_not_expanded_beyond_the_stated_length_nor_that_beyond_the_bound() {
    let zeros = vec![0; 1_000_000];
    for compression in BUILT {
        let codec = Compressed::new(Raw, compression);
        let bomb = codec.encode(&zeros[..]).expect("compressed");
        let bounded = Compressed::plain(Raw).max_decoded_bytes(999_999);
        let refused: Result<Vec<u8>, _> = bounded.decode(&bomb);
        assert!(matches!(
            refused,
            Err(CodecError::TooLarge {
                bytes: 1_000_000,
                max_bytes: 999_999
            })
        ));
        let refused = codec.max_decoded_bytes(999_999).encode(&zeros[..]);
        assert!(
            matches!(refused, Err(CodecError::TooLarge { .. })),
            "nor written"
        );
        let mut liar = bomb.to_vec();
        liar[5..9].copy_from_slice(&10_u32.to_be_bytes());
        assert!(matches!(
            read(&liar.into()),
            Err(CodecError::Damaged { .. })
        ));
    }
}

#[test]
fn a_zstd_frame_that_asks_for_a_large_window_is_refused() {
    // Magic, no flags, window descriptor (exponent - 10 in its upper five bits), one raw block.
    let frame = |window_log: u8| {
        let window = (window_log - 10) << 3;
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, window, 0x09, 0, 0, b'x'];
        read(&seal(ZSTD, 1, &frame))
    };
    assert_eq!(frame(23).expect("8 MiB"), b"x");
    let refused = frame(26).map(|_| ());
    assert!(matches!(refused, Err(CodecError::Damaged { .. })));
}

#[test]
fn a_cut_lengthened_or_unknown_envelope_is_a_typed_error() {
    for compression in BUILT {
        let data = Compressed::new(Raw, compression).encode(&flights()[..]);
        let data = data.expect("compressed");
        for cut in MARK.len()..data.len() {
            let error = read(&data.slice(..cut)).expect_err("cut");
            assert!(
                matches!(error, CodecError::Damaged { .. }),
                "{cut}: {error}"
            );
        }
        let longer = [&data[..], b"x"].concat();
        assert!(matches!(
            read(&longer.into()),
            Err(CodecError::Damaged { .. })
        ));
        let mut unknown = data.to_vec();
        unknown[4] = 9;
        assert!(matches!(
            read(&unknown.into()),
            Err(CodecError::UnknownCompression { method: 9 })
        ));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_back_unchanged(plain: Vec<u8>, marked: bool, zstd: bool) {
        let plain = if marked { [&MARK[..], &plain].concat() } else { plain };
        let compression = if zstd { Compression::Zstd } else { Compression::Gzip };
        let data = Compressed::new(Raw, compression).encode(&plain[..]).expect("encoded");
        prop_assert_eq!(read(&data).expect("readable"), plain);
    }

    /// Both bodies end in a checksum over the payload.
    #[test]
    fn a_flipped_bit_never_changes_what_is_read(at: prop::sample::Index, bit in 0..8, zstd: bool) {
        let compression = if zstd { Compression::Zstd } else { Compression::Gzip };
        let data = Compressed::new(Raw, compression).encode(&flights()[..]).expect("encoded");
        let mut damaged = data.to_vec();
        let at = MARK.len() + at.index(damaged.len() - MARK.len());
        damaged[at] ^= 1_u8 << bit;
        // gzip's header has flags and a time that no checksum covers.
        if let Ok(read) = read(&damaged.into()) {
            prop_assert_eq!(read, flights());
        }
    }

    #[test]
    fn no_bytes_behind_the_mark_make_a_reader_panic(bytes: Vec<u8>, method in 0_u8..4) {
        let envelope = [&MARK[..], &[method], &bytes].concat();
        let _typed = read(&envelope.into()).is_ok();
    }
}

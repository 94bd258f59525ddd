//! Frames in, readable frames out, however the bytes are split.

use proptest::prelude::*;

use super::*;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1][..], &size, payload, &[0xce]].concat()
}

fn content_header(flags: u16, properties: &[u8]) -> Vec<u8> {
    let fixed = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    [&fixed[..], &flags.to_be_bytes(), properties].concat()
}

fn with_headers(entries: &[u8]) -> Vec<u8> {
    let length = u32::try_from(entries.len()).unwrap().to_be_bytes();
    frame(
        HEADER,
        &content_header(1 << 13, &[&length, entries].concat()),
    )
}

fn sanitize(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut sanitizer = FrameSanitizer::new(100, Arc::default());
    let mut whole = Vec::new();
    for piece in bytes.chunks(piece) {
        sanitizer.feed(piece).unwrap();
        let mut buffer = [0; 7];
        while let count @ 1.. = sanitizer.give(&mut buffer) {
            whole.extend(&buffer[..count]);
        }
    }
    whole
}

#[test]
fn what_is_readable_passes_as_it_is_however_it_is_cut() {
    let properties = [&b"\x04json\x02id"[..], &[0; 8]].concat();
    let readable = [
        frame(8, &[]),
        frame(METHOD, &[0, 10, 0, 10, 0, 9]),
        frame(
            METHOD,
            b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x01\0\x02ex\x03key",
        ),
        frame(
            HEADER,
            &content_header(1 << 15 | 1 << 7 | 1 << 6, &properties),
        ),
        with_headers(b"\x01aS\0\0\0\x01x"),
        frame(3, b"\xff{}"),
        frame(3, &[7; 1000]),
    ]
    .concat();
    for piece in [1, 2, 6, 7, 8, 64, 10_000] {
        assert_eq!(sanitize(&readable, piece), readable, "in pieces of {piece}");
    }
}

#[test]
fn texts_that_are_not_utf8_become_so() {
    let unreadable = frame(
        METHOD,
        b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x01\0\x02ex\x01\xff",
    );
    let readable = frame(
        METHOD,
        "\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x01\0\x02ex\x03\u{fffd}".as_bytes(),
    );
    assert_eq!(sanitize(&unreadable, 5), readable);

    let id = |text: &[u8]| {
        let length = [u8::try_from(text.len()).unwrap()];
        frame(HEADER, &content_header(1 << 7, &[&length, text].concat()))
    };
    assert_eq!(sanitize(&id(b"a\xffb"), 9), id("a\u{fffd}b".as_bytes()));
    // Three bytes for each invalid one: cut to the size of a short string.
    let long = sanitize(&id(&[0xff; 255]), 100);
    assert_eq!(long, id("\u{fffd}".repeat(85).as_bytes()));
}

#[test]
fn of_headers_only_what_is_of_use_and_fits_passes() {
    let text = |name: &str, length: u8| {
        let name_length = u8::try_from(name.len()).unwrap();
        let value = vec![b'x'; usize::from(length)];
        [
            &[name_length],
            name.as_bytes(),
            b"S\0\0\0",
            &[length],
            &value,
        ]
        .concat()
    };
    let number = b"\x01nl\0\0\0\0\0\0\0\x07";
    let table = b"\x01tF\0\0\0\x02\xff\xff";
    let array = b"\x01aA\0\0\0\x01?";
    let entries = [&text("large", 101)[..], table, &text("b", 9), array, number].concat();
    let kept = [&number[..], &text("b", 9)].concat();
    assert_eq!(sanitize(&with_headers(&entries), 11), with_headers(&kept));

    let unknown = [&text("a", 1)[..], b"\x01?Z\0", &text("b", 1)].concat();
    assert_eq!(
        sanitize(&with_headers(&unknown), 11),
        with_headers(&text("a", 1))
    );
}

#[test]
fn a_frame_that_no_broker_sends_is_an_error_and_another_protocol_passes() {
    let mut sanitizer = FrameSanitizer::new(100, Arc::default());
    assert!(
        sanitizer
            .feed(&[HEADER, 0, 1, 0xff, 0xff, 0xff, 0xff])
            .is_err()
    );
    assert_eq!(sanitize(b"AMQP\0\0\x09\x01", 3), b"AMQP\0\0\x09\x01");
}

proptest! {
    #[test]
    fn properties_of_any_bytes_come_out_readable(
        flags in any::<u16>(),
        properties in prop::collection::vec(any::<u8>(), 0..200),
        piece in 1_usize..50,
    ) {
        let whole = sanitize(&frame(HEADER, &content_header(flags, &properties)), piece);
        let channel = lapin_reads(&whole);
        prop_assert_eq!(channel, Some(1), "{:?}", whole);
    }

    #[test]
    fn headers_of_any_bytes_come_out_readable(
        entries in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let whole = sanitize(&with_headers(&entries), 64);
        prop_assert_eq!(lapin_reads(&whole), Some(1), "{:?}", whole);
    }
}

/// The channel of a content header, if the sanitizer leaves it unchanged.
fn lapin_reads(bytes: &[u8]) -> Option<u8> {
    (sanitize(bytes, bytes.len()) == bytes).then(|| bytes[2])
}

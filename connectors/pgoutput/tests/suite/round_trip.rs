//! Built messages come back as they were; cut or lengthened ones are errors.

use crate::model::Model;
use crate::strategy::message;
use proptest::prelude::*;
use relay_core::Kind;
use relay_pgoutput::fuzz::fuzz_body;
use relay_pgoutput::{Decoder, Error, Tag};

fn decoder(in_stream: bool) -> Decoder {
    if in_stream { Decoder::inside_stream() } else { Decoder::new() }
}

fn placed() -> impl Strategy<Value = (bool, Model)> {
    any::<bool>().prop_flat_map(|in_stream| message(in_stream).prop_map(move |model| (in_stream, model)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_back_as_it_was((in_stream, model) in placed()) {
        let bytes = model.encode();
        fuzz_body(&bytes);
        let mut decoder = decoder(in_stream);
        let decoded = decoder.decode(&bytes).map(|message| Model::of(&message));
        prop_assert_eq!(decoded, Ok(model));
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error((in_stream, model) in placed()) {
        let bytes = model.encode();
        for end in 0..bytes.len() {
            // Without its abort point a Stream Abort is complete: that of protocol 2.
            let is_whole_abort = bytes[0] == b'A' && end == 9;
            let cut = &bytes[..end];
            fuzz_body(cut);
            prop_assert_eq!(decoder(in_stream).decode(cut).is_ok(), is_whole_abort, "cut at {}", end);
        }
    }

    #[test]
    fn a_byte_too_many_is_an_error((in_stream, model) in placed(), byte in any::<u8>()) {
        let mut bytes = model.encode();
        let end = bytes.len();
        bytes.push(byte);
        let error = decoder(in_stream).decode(&bytes).map(|message| Model::of(&message)).expect_err("a byte too many");
        prop_assert_eq!(error.kind(), Kind::SourceProtocol);
        prop_assert!(error.offset() <= end);
    }

    #[test]
    fn a_stream_of_messages_keeps_its_state(script in proptest::collection::vec((message(false), message(true)), 1..20)) {
        let mut decoder = Decoder::new();
        for (outside, inside) in script {
            let model = if decoder.in_stream() { inside } else { outside };
            let bytes = model.encode();
            let before = decoder.in_stream();
            prop_assert_eq!(decoder.decode(&bytes).map(|message| Model::of(&message)), Ok(model));
            let expected = match Tag::from_byte(bytes[0]) {
                Some(Tag::StreamStart) => true,
                Some(Tag::StreamStop) => false,
                _ => before,
            };
            prop_assert_eq!(decoder.in_stream(), expected);
        }
    }
}

#[test]
fn a_message_out_of_place_is_refused() {
    let begin = b"B\0\0\0\0\x01\x02\x03\x04\0\0\0\0\0\0\0\0\0\0\0\x01";
    assert!(Decoder::new().decode(begin).is_ok());
    let refused = Decoder::inside_stream().decode(begin).map(|_| ());
    assert_eq!(refused, Err(Error::OutOfPlace { tag: Tag::Begin, in_stream: true }));
    let refused = Decoder::new().decode(b"E").map(|_| ());
    assert_eq!(refused, Err(Error::OutOfPlace { tag: Tag::StreamStop, in_stream: false }));
    let refused = Decoder::inside_stream().decode(b"S\0\0\0\x01\x01").map(|_| ());
    assert_eq!(refused, Err(Error::OutOfPlace { tag: Tag::StreamStart, in_stream: true }));
}

#[test]
fn announced_sizes_never_allocate() {
    // 65,535 columns, a value of 4 GiB, 2^32 - 1 relations, in a few bytes.
    let cases: [(&[u8], usize, u32); 4] = [
        (b"R\0\0\x40\0s\0t\0d\xff\xff\x01a\0\0\0\0\x17\xff\xff\xff\xff", 10, 65_535),
        (b"I\0\0\x40\0N\xff\xffnnnn", 6, 65_535),
        (b"I\0\0\x40\0N\0\x01t\xff\xff\xff\xffabc", 9, u32::MAX),
        (b"T\xff\xff\xff\xff\0\0\0\x40\0", 1, u32::MAX),
    ];
    for (bytes, at, count) in cases {
        match Decoder::new().decode(bytes) {
            Err(Error::WrongCount { offset, announced, .. }) => assert_eq!((offset, announced), (at, count)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn names_must_be_utf8_and_values_need_not_be() {
    let error = Decoder::new().decode(b"Y\0\0\x40\0public\0m\xffd\0").map(|_| ()).expect_err("a name of Latin-1");
    assert_eq!(error, Error::NotUtf8 { tag: Tag::Type, offset: 13, expected: "a type name ended by NUL" });
    assert!(Decoder::new().decode(b"I\0\0\x40\0N\0\x01t\0\0\0\x02\xff\xfe").is_ok());
}

#[test]
fn reserved_flags_stop_the_stream() {
    let mut commit = Model::Commit(relay_pgoutput::Commit {
        commit_lsn: relay_core::Lsn(1),
        end_lsn: relay_core::Lsn(2),
        commit_time: relay_pgoutput::Timestamp(3),
    })
    .encode();
    assert!(Decoder::new().decode(&commit).is_ok());
    commit[1] = 4;
    let error = Decoder::new().decode(&commit).map(|_| ()).expect_err("an unknown flag");
    assert_eq!(error.to_string(), "Commit 'C' message has 0x04 at byte 1: expected flags 0");
}

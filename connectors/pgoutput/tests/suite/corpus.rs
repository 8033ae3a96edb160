//! The committed messages in `corpus/`: they decode as their names say, and no damage to them breaks the decoder.
//!
//! One raw message per file. A name that starts with `bad_` is of a message that must be refused, one with `_in_stream` of a
//! message inside a stream block; every other one stands outside of a block. `pg15_` and the like are recordings of a server.

use crate::model::Model;
use crate::mutation::Xorshift;
use relay_pgoutput::fuzz::fuzz_body;
use relay_pgoutput::{Decoder, Tag};
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Long enough for some hundred thousand mutations, short enough for every run.
const TIME_BOX: Duration = Duration::from_secs(2);
const SEED_VARIABLE: &str = "RELAY_FUZZ_SEED";

/// Name and content of every file, by name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("list corpus").path();
        let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
        (name, fs::read(&path).expect("read corpus file"))
    };
    let mut files: Vec<_> = fs::read_dir(folder).expect("open corpus").map(read).collect();
    files.sort();
    files
}

/// Decodes outside or inside a block, and encodes again to the very same bytes.
fn decode(bytes: &[u8], in_stream: bool) -> Result<Tag, relay_pgoutput::Error> {
    let mut decoder = if in_stream { Decoder::inside_stream() } else { Decoder::new() };
    let message = decoder.decode(bytes)?;
    // The one thing that does not come back: a schema spelled out that the server sends as an empty string.
    if has_no_spelled_catalog(bytes) {
        assert_eq!(Model::of(&message).encode(), bytes, "{message:?}");
    }
    Ok(message.tag())
}

fn has_no_spelled_catalog(bytes: &[u8]) -> bool {
    !bytes.windows(10).any(|window| window == b"pg_catalog")
}

#[test]
fn files_decode_as_their_names_say() {
    let mut outside = HashSet::new();
    let mut inside = HashSet::new();
    for (name, bytes) in corpus() {
        fuzz_body(&bytes);
        let in_stream = name.contains("_in_stream");
        if name.starts_with("bad_") {
            for in_stream in [false, true] {
                assert!(decode(&bytes, in_stream).is_err(), "{name} must be refused");
            }
        } else {
            let tag = decode(&bytes, in_stream).unwrap_or_else(|error| panic!("{name}: {error}"));
            if in_stream {
                inside.insert(tag)
            } else {
                outside.insert(tag)
            };
        }
    }
    for tag in Tag::ALL {
        assert!(!tag.fits(false) || outside.contains(tag), "no file of {tag}");
        assert!(!tag.fits(true) || inside.contains(tag), "no file of {tag} inside a stream block");
    }
}

#[test]
fn no_damage_breaks_the_decoder() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock);
    println!("{SEED_VARIABLE}={seed}");
    let (corpus, mut random) = (corpus(), Xorshift::new(seed));
    let (start, mut count, mut decodable) = (Instant::now(), 0_u64, 0_u64);
    let mut bytes = Vec::new();
    while start.elapsed() < TIME_BOX {
        let (_, message) = &corpus[random.below(corpus.len())];
        let (_, other) = &corpus[random.below(corpus.len())];
        bytes.clone_from(message);
        random.damage(&mut bytes, other);
        fuzz_body(&bytes);
        for in_stream in [false, true] {
            decodable += u64::from(decode(&bytes, in_stream).is_ok());
        }
        count += 1;
    }
    println!("{count} mutations of {} files, {decodable} of them messages again", corpus.len());
    assert!(count > 100, "{count} mutations in {TIME_BOX:?}");
}

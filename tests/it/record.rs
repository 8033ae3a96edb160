//! Records the decoder's corpus from real servers: `cargo test -p relay-tests --test it record -- --ignored`.
//!
//! Each kind of message that a server sends is written once to `connectors/pgoutput/corpus`, named after server, message and what is
//! in it. What is there already is written again only by a server of the same version.

use relay_core::Cell;
use relay_pgoutput::{Decoder, Message, OldTuple, TupleData};
use relay_tests::postgres::Postgres;
use relay_tests::versions::Version;
use std::collections::BTreeMap;
use std::path::Path;

/// Messages above this stay out: the corpus is for shapes, not for sizes.
const FILE_MAX: usize = 2_000;

const TABLES: &str = "
CREATE TABLE keyed (id int PRIMARY KEY, body text, n numeric(10,2), at timestamptz);
CREATE TABLE wholly (id int, body text); ALTER TABLE wholly REPLICA IDENTITY FULL;
CREATE TABLE indexed (a int NOT NULL, b text); CREATE UNIQUE INDEX indexed_a ON indexed (a);
ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_a;
CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE moody (id int PRIMARY KEY, mood mood);
CREATE TABLE \"Quoted \"\"name\"\"\" (\"Id\" int PRIMARY KEY);
CREATE PUBLICATION recorder FOR ALL TABLES;";

/// Each is sent as one: a statement outside of BEGIN is a transaction of its own.
const CHANGES: &[&str] = &[
    "BEGIN; INSERT INTO keyed VALUES (1, 'ä', 1.50, '2026-01-02 03:04:05+00'), (2, NULL, NULL, NULL);
     INSERT INTO keyed SELECT 3, string_agg(md5(i::text), '') FROM generate_series(1, 400) i;
     UPDATE keyed SET n = 2 WHERE id = 3; UPDATE keyed SET id = 4 WHERE id = 1; DELETE FROM keyed WHERE id = 2; COMMIT",
    "INSERT INTO wholly VALUES (1, 'a'); UPDATE wholly SET body = 'b'; DELETE FROM wholly",
    "INSERT INTO indexed VALUES (1, 'a'); UPDATE indexed SET a = 2; DELETE FROM indexed",
    "INSERT INTO moody VALUES (1, 'glad'); INSERT INTO \"Quoted \"\"name\"\"\" VALUES (1)",
    "TRUNCATE moody",
    "TRUNCATE indexed, wholly RESTART IDENTITY CASCADE",
    "SELECT pg_logical_emit_message(true, 'prefix', 'content')",
    "SELECT pg_logical_emit_message(false, 'prefix', '')",
    "BEGIN; INSERT INTO moody SELECT i, 'sad' FROM generate_series(1, 2000) i; SAVEPOINT s;
     INSERT INTO wholly SELECT i, 'x' FROM generate_series(1, 2000) i; ROLLBACK TO s;
     INSERT INTO wholly VALUES (1, 'x'); UPDATE wholly SET body = 'y'; SELECT pg_logical_emit_message(true, 'prefix', 'streamed');
     DELETE FROM moody WHERE id < 9; TRUNCATE wholly; COMMIT",
    "BEGIN; INSERT INTO moody SELECT i + 5000, 'sad' FROM generate_series(1, 2000) i; ROLLBACK",
    "SELECT pg_switch_wal()",
];

#[test]
#[ignore = "writes the corpus; run it by name"]
fn record_the_corpus_from_real_servers() {
    for (version, name, protocols) in [(Version::V15, "pg15", 1..=3), (Version::V18, "pg18", 1..=4)] {
        let db = Postgres::builder(version).setting("logical_decoding_work_mem", "64kB").start();
        db.sql(TABLES);
        db.sql("SELECT pg_create_logical_replication_slot('recorder', 'pgoutput')");
        CHANGES.iter().for_each(|statements| drop(db.sql(statements)));
        let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for protocol in protocols {
            for binary in [false, true] {
                let streaming = if protocol > 1 { "'streaming', 'on'," } else { "" };
                let rows = db.sql(&format!(
                    "SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('recorder', NULL, NULL, \
                     'proto_version', '{protocol}', {streaming} 'binary', '{binary}', 'messages', 'true', 'publication_names', 'recorder')"
                ));
                let mut decoder = Decoder::new();
                for row in &rows.0 {
                    let bytes = unhex(row[0].as_deref().expect("a message"));
                    let in_stream = decoder.in_stream();
                    let message = decoder.decode(&bytes).unwrap_or_else(|e| panic!("{name}, protocol {protocol}: {e}"));
                    let file = format!("{name}_{}", describe(&message, in_stream));
                    if bytes.len() <= FILE_MAX {
                        kept.entry(file).or_insert(bytes);
                    }
                }
                println!("{name}, protocol {protocol}, binary {binary}: {} messages", rows.len());
            }
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../connectors/pgoutput/corpus");
        for (file, bytes) in &kept {
            std::fs::write(folder.join(file), bytes).expect("write a corpus file");
        }
        println!("{name}: {} files", kept.len());
    }
}

/// Message and content in words that make a file's name; `in_stream` in it means inside a stream block.
fn describe(message: &Message<'_>, in_stream: bool) -> String {
    let title = message.tag().title().to_lowercase().replace(' ', "_");
    let place = if in_stream { "_in_stream" } else { "" };
    let detail = match message {
        Message::Insert(insert) => kinds(&[insert.new]),
        Message::Update(update) => match update.old {
            None => format!("_no_old{}", kinds(&[update.new])),
            Some(OldTuple::Key(old)) => format!("_key{}", kinds(&[old, update.new])),
            Some(OldTuple::Full(old)) => format!("_full{}", kinds(&[old, update.new])),
        },
        Message::Delete(delete) => match delete.old {
            OldTuple::Key(old) => format!("_key{}", kinds(&[old])),
            OldTuple::Full(old) => format!("_full{}", kinds(&[old])),
        },
        Message::Relation(relation) => format!("_identity_{:?}", relation.identity).to_lowercase(),
        Message::Message(message) => if message.is_transactional { "_tx" } else { "_nontx" }.to_owned(),
        Message::Truncate(truncate) => format!("_{}", truncate.oids().len()),
        Message::StreamStart(start) => if start.is_first_segment { "_first" } else { "_next" }.to_owned(),
        Message::StreamAbort(abort) => if abort.is_whole() { "_whole" } else { "_sub" }.to_owned(),
        _ => String::new(),
    };
    format!("{title}{place}{detail}")
}

fn kinds(tuples: &[TupleData<'_>]) -> String {
    let all = || tuples.iter().flat_map(|tuple| tuple.cells());
    let mut text = String::new();
    for (name, is) in [
        ("_binary", &(|cell: &Cell| matches!(cell, Cell::Binary { .. })) as &dyn Fn(&Cell) -> bool),
        ("_null", &|cell| matches!(cell, Cell::Null)),
        ("_text", &|cell| matches!(cell, Cell::Text { .. })),
        ("_toast", &|cell| matches!(cell, Cell::Unchanged)),
    ] {
        if all().any(is) {
            text.push_str(name);
        }
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect()
}

//! A log line in each format, and text that would like to break out of one.

use super::*;
use std::sync::{Arc, Mutex};

/// The lines that `work` logs, without their stamps.
fn lines(format: Format, work: impl FnOnce()) -> Vec<String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let layer =
        Lines { format, pipeline: "orders".to_owned(), write: move |line: &str| sink.lock().unwrap().push(line.to_owned()) };
    tracing::subscriber::with_default(Registry::default().with(layer.with_filter(targets("info").unwrap())), work);
    let seen = seen.lock().unwrap();
    let stamp = "2026-03-01T09:30:00.123Z";
    seen.iter()
        .map(|line| {
            let at = line.find("20").unwrap();
            line.replacen(&line[at..at + stamp.len()], stamp, 1)
        })
        .collect()
}

fn slot_lost() {
    let fault = std::io::Error::other("the \"slot\" is gone\n\u{1b}[31mand red");
    tracing::warn!(
        target: "relay::stream",
        event = "slot.lost",
        lsn = %"16/B374D848",
        xid = 742_u32,
        table = "public.outbox",
        error.code = "R0222",
        error.class = "config",
        hint = "drop it",
        is_leader = true,
        lag_seconds = 1.5,
        error = &fault as &(dyn std::error::Error + 'static),
        "the slot is lost"
    );
    tracing::debug!("not wanted");
}

#[test]
fn a_json_line() {
    let lines = lines(Format::Json, slot_lost);
    assert_eq!(
        lines,
        [concat!(
            r#"{"ts":"2026-03-01T09:30:00.123Z","level":"warn","msg":"the slot is lost","target":"relay::stream","#,
            r#""event":"slot.lost","pipeline":"orders","lsn":"16/B374D848","xid":742,"table":"public.outbox","#,
            r#""error.code":"R0222","error.class":"config","hint":"drop it","is_leader":true,"lag_seconds":1.5,"#,
            r#""error":"the \"slot\" is gone\n\u001b[31mand red"}"#,
            "\n"
        )]
    );
    let value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(value["error"], "the \"slot\" is gone\n\u{1b}[31mand red");
}

#[test]
fn a_text_line() {
    assert_eq!(
        lines(Format::Text, slot_lost),
        [concat!(
            "2026-03-01T09:30:00.123Z  WARN slot.lost the slot is lost lsn=16/B374D848 xid=742 table=public.outbox error.code=R0222 ",
            "error.class=config hint=\"drop it\" is_leader=true lag_seconds=1.5 error=\"the \\\"slot\\\" is gone\\n\\u001b[31mand red\"\n"
        )]
    );
}

#[test]
fn a_logfmt_line() {
    assert_eq!(
        lines(Format::Logfmt, slot_lost),
        [concat!(
            "ts=2026-03-01T09:30:00.123Z level=warn msg=\"the slot is lost\" target=relay::stream event=slot.lost pipeline=orders ",
            "lsn=16/B374D848 xid=742 table=public.outbox error.code=R0222 error.class=config hint=\"drop it\" is_leader=true ",
            "lag_seconds=1.5 error=\"the \\\"slot\\\" is gone\\n\\u001b[31mand red\"\n"
        )]
    );
}

#[test]
fn no_text_breaks_out_of_its_line() {
    for evil in ["a\nb", "\r", "\u{1b}[2J", "\u{9b}31m", "\u{2028}", "\u{202e}gnp", "\0", "\u{7f}"] {
        for format in [Format::Text, Format::Json, Format::Logfmt] {
            let lines = lines(format, || tracing::error!(event = evil, key = evil, "{evil}"));
            let body = lines[0].strip_suffix('\n').unwrap();
            assert!(!body.chars().any(is_harmful), "{format:?}: {body:?}");
        }
    }
}

#[test]
fn a_field_called_message_does_not_hide_the_message() {
    let message = "broker down";
    let lines = lines(Format::Text, || tracing::info!(topic = "t", message, "Kafka refuses records"));
    assert_eq!(lines, ["2026-03-01T09:30:00.123Z  INFO Kafka refuses records topic=t cause=\"broker down\"\n"]);
}

#[test]
fn fields_never_replace_what_has_a_fixed_place() {
    let lines = lines(Format::Json, || tracing::info!(level = 3, pipeline = "other", target = "x", "hello"));
    let value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&value["level"], &value["pipeline"]), (&"info".into(), &"orders".into()));
    assert_eq!(value["field.pipeline"], "other");
}

#[test]
fn levels_and_filters() {
    for good in ["info", "WARN", "info,relay_kafka=debug", "off", "warn, librdkafka=off"] {
        assert!(targets(good).is_ok(), "{good}");
    }
    for bad in ["", "loud", "info,relay_kafka=loud", "infoo"] {
        assert!(targets(bad).is_err(), "{bad}");
    }
    assert_eq!(shifted("info", 1), "debug");
    assert_eq!(shifted("info", 9), "trace");
    assert_eq!(shifted("info", -2), "error");
    assert_eq!(shifted("info", -9), "error");
    assert_eq!(shifted("info,relay_kafka=debug", 1), "debug,relay_kafka=debug");
    assert_eq!(Format::Auto.resolved(true), Format::Text);
    assert_eq!(Format::Auto.resolved(false), Format::Json);
}

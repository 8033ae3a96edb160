//! What is rendered is the contract, no more and no less, and the documentation says the same.

use super::name::{CONTRACT, Shape};
use super::*;
use crate::status::{Peer, ServerFacts, SlotFacts, Status};
use relay_core::Lsn;
use relay_core::error::POLICY;
use relay_core::session::State;
use relay_postgres::OutboxFacts;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

fn metrics() -> Metrics {
    let build = Build { version: "0.1.0", commit: "abc", librdkafka: "2.12.1".to_owned() };
    let setup = Setup {
        mode: "log",
        guarantee: "at-least-once",
        slot: "relay_orders".to_owned(),
        publication: "relay_orders".to_owned(),
        sink: "kafka",
        wal_budget_bytes: Some(10),
        memory_limit_bytes: 64,
    };
    Metrics::with("orders", 3, build, setup)
}

fn slot() -> SlotFacts {
    SlotFacts {
        active_pid: Some(7),
        wal_status: Some("extended".to_owned()),
        safe_wal_bytes: Some(5),
        confirmed_lsn: Lsn(100),
        restart_lsn: Lsn(50),
        wal_end: Lsn(1_000),
        retained_bytes: 950,
        catalog_xmin_age: Some(9),
        inactive_since: None,
    }
}

fn server() -> ServerFacts {
    ServerFacts { oldest_transaction: Some((1.5, "pid 9".to_owned())), clock_ahead_us: 2_000_000 }
}

/// A status with everything known.
fn status() -> Status {
    let status = Status::new();
    *status.slot() = Some(slot());
    *status.server() = server();
    let pending = Some(relay_postgres::Pending { rows: 4, oldest_seconds: Some(2.5) });
    status.outboxes().push(OutboxFacts { table: "public.outbox".to_owned(), size_bytes: 8192, dead_rows: 3, pending });
    status.saw(Peer::Source);
    let mut progress = status.progress();
    progress.state = State::Streaming;
    progress.is_leader = true;
    progress.received = Lsn(900);
    progress.frontier = Lsn(700);
    progress.confirmed = Lsn(600);
    drop(progress);
    status
}

/// The value of a sample, given as it is rendered.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn rendered_names_types_and_labels_are_the_contract() {
    let metrics = metrics();
    metrics.table("public.outbox").insert(3);
    metrics.topic("orders").increment(2);
    metrics.certificate_expiry("source", 1.8e9);
    let text = metrics.render(&status());
    let types: BTreeSet<String> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ").map(str::to_owned)).collect();
    let wanted: BTreeSet<String> = CONTRACT.iter().map(|each| format!("{} {}", each.name, each.shape.word())).collect();
    assert_eq!(types, wanted);
    assert_eq!(text.matches("# TYPE ").count(), CONTRACT.len(), "a metric is rendered twice");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("no labels: {line}"));
        assert!(rest.contains("pipeline=\"orders\""), "{line}");
        let of = |each: &&&Definition| match each.shape {
            Shape::Histogram(_) => {
                ["_bucket", "_sum", "_count"].iter().any(|suffix| name.strip_suffix(suffix) == Some(each.name))
            }
            _ => name == each.name,
        };
        let definition = CONTRACT.iter().find(of).unwrap_or_else(|| panic!("unknown: {line}"));
        for label in definition.labels {
            assert!(rest.contains(&format!("{label}=\"")), "{label} is missing: {line}");
        }
    }
}

#[test]
fn names_follow_the_rules() {
    for each in CONTRACT {
        assert_eq!(each.shape == Shape::Counter, each.name.ends_with("_total"), "{}", each.name);
        let suffix = match each.unit {
            metrics::Unit::Seconds => "_seconds",
            metrics::Unit::Bytes if each.name.ends_with("_lsn") => "_lsn",
            metrics::Unit::Bytes => "_bytes",
            _ => "",
        };
        assert!(each.name.trim_end_matches("_total").ends_with(suffix), "{} lacks {suffix}", each.name);
        assert!(!each.meaning.is_empty() && !each.meaning.contains('\n'), "{}", each.name);
    }
}

#[test]
fn combinations_known_in_advance_stand_at_zero() {
    let text = metrics().render(&Status::new());
    for sample in [
        "relay_errors_total{pipeline=\"orders\",stage=\"connect\",class=\"auth\"}",
        "relay_errors_total{pipeline=\"orders\",stage=\"encode\",class=\"poison\"}",
        "relay_rewinds_total{pipeline=\"orders\",reason=\"unknown_topic\"}",
        "relay_dlq_events_total{pipeline=\"orders\",reason=\"too_large\"}",
        "relay_events_filtered_total{pipeline=\"orders\",reason=\"marker_update\"}",
        "relay_reconnects_total{pipeline=\"orders\",peer=\"control\"}",
        "relay_source_notices_total{pipeline=\"orders\",severity=\"warning\"}",
        "relay_end_to_end_latency_seconds_bucket{pipeline=\"orders\",le=\"0.005\"}",
        "relay_state{pipeline=\"orders\",state=\"paused\"}",
    ] {
        assert_eq!(value(&text, sample), Some(0.0), "{sample}\n{text}");
    }
    assert!(!text.contains("relay_slot_active"), "nothing is known of the slot yet");
    assert!(!text.contains("relay_slot_safe_wal_bytes"));
}

#[test]
fn counting_is_seen_at_the_next_scrape() {
    let metrics = metrics();
    for reason in PoisonReason::ALL {
        metrics.dlq(reason);
        metrics.discarded(reason);
        metrics.poison(reason);
    }
    label::FILTERED.into_iter().for_each(|reason| metrics.filtered(reason));
    for row in POLICY {
        metrics.error(row.stage, row.class);
        metrics.retry(row.stage);
    }
    metrics.rewind(Rewind::Source);
    label::LINKS.into_iter().for_each(|link| metrics.reconnect(link));
    metrics.notice("WARNING");
    metrics.notice("DEBUG1");
    metrics.backpressure(1.5);
    metrics.checkpoint_written(1_772_357_400.25);
    metrics.end_to_end(0.02);
    let text = metrics.render(&status());
    for (sample, wanted) in [
        ("relay_dlq_events_total{pipeline=\"orders\",reason=\"rejected\"}", 1.0),
        ("relay_errors_total{pipeline=\"orders\",stage=\"produce\",class=\"poison\"}", 5.0),
        ("relay_errors_total{pipeline=\"orders\",stage=\"connect\",class=\"auth\"}", 3.0),
        ("relay_retries_total{pipeline=\"orders\",stage=\"checkpoint\"}", 8.0),
        ("relay_events_filtered_total{pipeline=\"orders\",reason=\"scheduled\"}", 1.0),
        ("relay_rewinds_total{pipeline=\"orders\",reason=\"source\"}", 1.0),
        ("relay_reconnects_total{pipeline=\"orders\",peer=\"sink\"}", 1.0),
        ("relay_source_notices_total{pipeline=\"orders\",severity=\"debug\"}", 1.0),
        ("relay_backpressure_seconds_total{pipeline=\"orders\"}", 1.5),
        ("relay_checkpoint_writes_total{pipeline=\"orders\"}", 1.0),
        ("relay_last_checkpoint_timestamp_seconds{pipeline=\"orders\"}", 1_772_357_400.25),
        ("relay_end_to_end_latency_seconds_bucket{pipeline=\"orders\",le=\"0.025\"}", 1.0),
        ("relay_end_to_end_latency_seconds_count{pipeline=\"orders\"}", 1.0),
        ("relay_state{pipeline=\"orders\",state=\"streaming\"}", 1.0),
        ("relay_slot_wal_status{pipeline=\"orders\",status=\"extended\"}", 1.0),
        ("relay_source_lag_bytes{pipeline=\"orders\",stage=\"received\"}", 100.0),
        ("relay_source_lag_bytes{pipeline=\"orders\",stage=\"produced\"}", 300.0),
        ("relay_source_lag_bytes{pipeline=\"orders\",stage=\"confirmed\"}", 400.0),
        ("relay_source_connected{pipeline=\"orders\"}", 1.0),
        ("relay_sink_connected{pipeline=\"orders\"}", 0.0),
        ("relay_source_oldest_transaction_seconds{pipeline=\"orders\"}", 1.5),
        ("relay_outbox_size_bytes{pipeline=\"orders\",table=\"public.outbox\"}", 8192.0),
        ("relay_outbox_dead_rows{pipeline=\"orders\",table=\"public.outbox\"}", 3.0),
        ("relay_outbox_pending_rows{pipeline=\"orders\",table=\"public.outbox\"}", 4.0),
        ("relay_outbox_oldest_pending_seconds{pipeline=\"orders\",table=\"public.outbox\"}", 2.5),
    ] {
        assert_eq!(value(&text, sample), Some(wanted), "{sample}\n{text}");
    }
}

#[test]
fn labels_that_data_chooses_are_capped() {
    let metrics = metrics();
    for at in 0..10 {
        metrics.topic(&format!("topic-{at}")).increment(1);
        metrics.table(&format!("public.t{at}")).update(1);
    }
    let text = metrics.render(&Status::new());
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name) && line.contains('{')).count();
    assert_eq!(series("relay_events_produced_total{"), 4);
    assert_eq!(series("relay_schema_changes_total{"), 4);
    assert_eq!(value(&text, "relay_events_produced_total{pipeline=\"orders\",topic=\"_other\"}"), Some(7.0));
    assert_eq!(value(&text, "relay_events_received_total{pipeline=\"orders\",table=\"_other\",op=\"update\"}"), Some(7.0));
}

#[test]
fn label_values_cannot_break_out() {
    let metrics = metrics();
    metrics.topic("a\"} 1\nrelay_up 1").increment(1);
    assert!(!metrics.render(&Status::new()).lines().any(|line| line.starts_with("relay_up")));
}

#[test]
fn lag_is_zero_when_caught_up_and_on_the_servers_clock_otherwise() {
    let status = status();
    let mut progress = status.progress().clone();
    assert_eq!(scrape::lag_seconds(&progress, &server(), 10_000_000), 0.0);
    progress.oldest_commit_us = Some(9_000_000);
    assert_eq!(scrape::lag_seconds(&progress, &server(), 10_000_000), 3.0);
    assert_eq!(scrape::lag_seconds(&progress, &ServerFacts::default(), 8_000_000), 0.0);
    // A standby has received nothing, but knows where the slot stands.
    let standby = Status::new().progress().clone();
    assert_eq!(scrape::LagBytes::of(&standby, Some(&slot())).map(|lag| (lag.received, lag.confirmed)), Some((900, 900)));
    assert_eq!(scrape::LagBytes::of(&standby, None), None);
}

#[test]
fn the_reference_is_the_contract() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let wanted = reference();
    if std::env::var_os("RELAY_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "docs/reference/metrics.md is not what the code says; run this test with RELAY_BLESS=1");
}

fn reference() -> String {
    let mut text = String::from(concat!(
        "# Metrics\n\n",
        "<!-- Written by a test of relay/daemon/src/metrics from its constants; RELAY_BLESS=1 writes it anew. -->\n\n",
        "`GET /metrics` on the admin listener answers in the text format of Prometheus. Every sample has the label `pipeline`, the name\n",
        "of the configuration. The labels `table` and `topic` take at most `admin.label_limit` values each; what comes later counts as\n",
        "`_other`. Label values that are known in advance exist at 0 from the start.\n\n",
        "| name | type | labels | meaning |\n|---|---|---|---|\n",
    ));
    for each in CONTRACT {
        let labels = each.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        writeln!(text, "| `{}` | {} | {labels} | {} |", each.name, each.shape.word(), each.meaning).unwrap();
    }
    text.push_str("\n## Label values\n\n| metric | label | values |\n|---|---|---|\n");
    let poison: Vec<&str> = PoisonReason::ALL.iter().map(|reason| reason.name()).collect();
    for (name, label, values) in [
        ("relay_state", "state", label::STATES.to_vec()),
        ("relay_slot_wal_status", "status", label::WAL_STATUSES.to_vec()),
        ("relay_source_lag_bytes", "stage", vec!["received", "queued", "produced", "confirmed"]),
        ("relay_events_received_total", "op", vec!["insert", "update", "delete", "truncate", "message"]),
        ("relay_events_filtered_total", "reason", label::FILTERED.to_vec()),
        ("relay_events_discarded_total", "reason", poison.clone()),
        ("relay_dlq_events_total", "reason", poison),
        ("relay_errors_total", "stage", label::stages().into_iter().collect()),
        (
            "relay_errors_total",
            "class",
            label::errors().into_iter().map(|(_, class)| class).collect::<BTreeSet<_>>().into_iter().collect(),
        ),
        ("relay_reconnects_total", "peer", label::LINKS.to_vec()),
        ("relay_rewinds_total", "reason", label::REWINDS.iter().map(|rewind| label::rewind(*rewind)).collect()),
        ("relay_source_notices_total", "severity", label::SEVERITIES.to_vec()),
        ("relay_tls_certificate_expiry_timestamp_seconds", "peer", label::PEERS.to_vec()),
    ] {
        writeln!(text, "| `{name}` | `{label}` | {} |", values.join(", ")).unwrap();
    }
    let Shape::Histogram(bounds) = name::END_TO_END_LATENCY.shape else { unreachable!() };
    let bounds = bounds.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
    writeln!(text, "\nBuckets of histograms, in seconds: {bounds}.").unwrap();
    text
}

//! Shows what the wrapper writes and measures, with a shell script in place of relay.

use std::os::unix::fs::PermissionsExt;

use super::{Builder, Fired, sum_of};
use crate::scratch::Scratch;
use crate::wait::{secs, until};

/// A script that says what it was called with and leaves with 0 on TERM, burning CPU meanwhile.
fn script(scratch: &Scratch) -> std::path::PathBuf {
    let path = scratch.write("fake", "#!/bin/sh\ntrap 'exit 0' TERM\necho \"called $*\"\nwhile :; do :; done\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn settings_are_merged_over_each_other() {
    let relay = Builder::new("orders").url("postgres://relay@h/db").brokers("b:1").table("public.a").table("public.b");
    let relay = relay.toml("[sink.kafka.properties]\n\"linger.ms\" = 7\n[source]\nmode = \"poll\"");
    let file: toml::Table = relay.file(4711).parse().unwrap();
    assert_eq!(file["name"].as_str(), Some("orders"));
    assert_eq!(file["source"]["url"].as_str(), Some("postgres://relay@h/db"));
    assert_eq!(file["source"]["mode"].as_str(), Some("poll"));
    assert_eq!(file["sink"]["kafka"]["brokers"].as_str(), Some("b:1"));
    assert_eq!(file["sink"]["kafka"]["properties"]["linger.ms"].as_integer(), Some(7));
    assert_eq!(file["outbox"].as_array().map(Vec::len), Some(2));
    assert_eq!(file["admin"]["listen"].as_str(), Some("127.0.0.1:4711"));
}

#[test]
fn a_process_is_watched_frozen_and_stopped() {
    let scratch = Scratch::new("fake");
    let mut relay = Builder::new("orders").binary(&script(&scratch)).arg("--more").spawn();
    until("the script to speak", secs(60), || relay.logs().contains("--more").then_some(()));
    assert!(relay.logs().starts_with("called run -c /"), "{}", relay.logs());
    until("CPU time", secs(60), || (!relay.cpu_time().is_zero()).then_some(()));
    assert!(relay.peak_rss_bytes() > 100_000);
    relay.pause();
    let stat = format!("/proc/{}/stat", relay.process().pid());
    until("a frozen process", secs(60), || std::fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    relay.resume();
    assert_eq!(relay.terminate().code, Some(0));
    relay.start_again();
    assert_eq!(relay.kill_9().signal, Some(9));
}

#[test]
fn what_a_failpoint_says_is_read_back() {
    let fired = Fired::parse("rewind: abort at pass 2; passed: after-read 10, rewind 2").unwrap();
    assert_eq!((fired.passes["rewind"], fired.passes["after-read"], fired.passes.len()), (2, 10, 2));
    assert!(Fired::parse("rewind: sleep at pass 1").unwrap().passes.is_empty());
    assert_eq!(Fired::parse("nothing of the kind"), None);
}

#[test]
fn metrics_are_summed_over_labels() {
    let text = "# HELP x_total of x\nx_total{a=\"1\",b=\"2\"} 3\nx_total{a=\"2\"} 4\nx_total_more 9\ny 0.5\n";
    assert_eq!(sum_of(text, "x_total"), Some(7.0));
    assert_eq!(sum_of(text, "x_total{b=\"2\"}"), Some(3.0));
    assert_eq!(sum_of(text, "y"), Some(0.5));
    assert_eq!(sum_of(text, "z"), None);
}

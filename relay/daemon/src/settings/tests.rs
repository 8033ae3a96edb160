//! Holds the reader to its promises: all findings at once, origins, masks, and no panic whatever the bytes.

use std::path::Path;
use std::time::{Duration, Instant};

use super::finding::Severity;
use super::load::{inspect_fragment, inspect_texts};
use super::source_text::SourceText;
use super::*;

const SMALLEST: &str = "\
name = \"orders\"
[source]
url = \"postgres://relay@localhost/shop\"
[[outbox]]
table = \"public.outbox\"
[sink.kafka]
brokers = \"localhost:9092\"
";

const CANARY: &str = "c4nary";

fn read(text: &str, variables: &[(&str, &str)], sets: &[&str]) -> Inspection {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    inspect_texts(vec![SourceText::new("relay.toml".to_owned(), text.to_owned())], Vec::new(), &variables, &sets)
}

/// Everything that a configuration can make relay print.
fn everything(found: &Inspection) -> String {
    let rows = serde_json::to_string_pretty(&found.report.rows()).unwrap();
    let (effective, origins) = (effective_toml(&found.tree), origins(&found.tree, &found.report));
    format!(
        "{}\n{rows}\n{effective}\n{origins}\n{:?}\n{:?}\n{:?}",
        found.report.text(true),
        found.settings,
        found.tree,
        found.report
    )
}

/// What is wrong with the smallest file and this one line more.
fn faults(lines: &str) -> Vec<(&'static str, String)> {
    let found = read(&format!("{SMALLEST}{lines}"), &[], &[]);
    found.report.findings.iter().map(|finding| (finding.kind.directive().code, finding.message.clone())).collect()
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/settings/fixtures").join(name);
    if std::env::var_os("RELAY_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "{name}: look at the difference, then `RELAY_BLESS=1 cargo test -p relay`");
}

#[test]
fn the_smallest_file_is_enough() {
    let found = read(SMALLEST, &[], &[]);
    assert_eq!(found.report.text(false), "");
    let settings = found.settings;
    assert_eq!((settings.source.log.slot.as_str(), settings.source.log.publication.as_str()), ("relay_orders", "relay_orders"));
    assert_eq!(settings.delivery.checkpoint_topic, "orders.checkpoint");
    assert_eq!(settings.delivery.dlq_topic, "orders.dlq");
    assert_eq!(settings.format.topic_prefix, "orders");
    assert!(settings.format.position_header);
    assert_eq!(settings.source.log.effective_receive_timeout(), Duration::from_secs(15));
    assert_eq!(settings.delivery.in_flight, Size(64 << 20));
    assert_eq!(settings.sink.kafka.brokers.0, ["localhost:9092"]);
    assert_eq!(settings.outbox[0].topic, None);
    assert_eq!(settings.source.log.wal_budget, None);
    assert!(settings.sink.kafka.security.mechanism == Mechanism::None && settings.source.password.is_none());
}

#[test]
fn a_bad_file_is_reported_whole() {
    let text = include_str!("fixtures/bad.toml");
    let found = inspect_texts(vec![SourceText::new("bad.toml".to_owned(), text.to_owned())], Vec::new(), &[], &[]);
    golden("bad.txt", &found.report.text(false));
    golden("bad.json", &(serde_json::to_string_pretty(&found.report.rows()).unwrap() + "\n"));
    let place = |key: &str| {
        let rows = serde_json::to_value(found.report.rows()).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key}")).clone();
        (row["code"].as_str().unwrap().to_owned(), row["line"].as_u64().unwrap(), row["column"].as_u64().unwrap())
    };
    for (key, code, line, column) in [
        ("name", "R0103", 1, 8),
        ("nmae", "R0102", 2, 1),
        ("source.url", "R0104", 5, 7),
        ("source.pasword", "R0102", 6, 1),
        ("source.log.slott", "R0102", 10, 1),
        ("source.log.receive_timeout", "R0103", 11, 19),
        ("source.log.wal_budget", "R0103", 12, 14),
        ("source.log.create", "R0103", 13, 10),
        ("outbox[0].message", "R0104", 18, 11),
        ("outbox[0].preset", "R0103", 19, 10),
        ("outbox[0].headers", "R0103", 20, 20),
        ("outbox[1].table", "R0104", 24, 9),
        ("outbox[1].topic", "R0104", 25, 9),
        ("capture[0].operations", "R0103", 29, 14),
        ("sink.kafka.properties.acks", "R0104", 46, 8),
        ("admin.listen", "R0103", 52, 10),
    ] {
        assert_eq!(place(key), (code.to_owned(), line, column), "{key}");
    }
    assert!(found.report.errors() > 20);
}

#[test]
fn each_rule_speaks_up() {
    for (lines, code, part) in [
        ("[admin]\nlisten = \"nowhere\"", "R0103", "is not an address"),
        ("[log]\nlevel = \"lout\"", "R0103", "is not a log level"),
        ("[delivery]\nin_flight = 5", "R0103", "with a unit, found the number 5"),
        ("[delivery]\nin_flight = \"5\"", "R0103", "has no unit"),
        ("[delivery]\nin_flight = \"99999999999TiB\"", "R0103", "too large"),
        ("[delivery]\ncheckpoint_interval = \"0s\"", "R0103", "more than zero"),
        ("[delivery]\ncheckpoint_topic = \"a b\"", "R0103", "is not a topic name"),
        ("[delivery]\ndlq_topic = \"{name}_checkpoint\"", "R0104", "cannot share a topic"),
        ("[delivery]\non_poison = \"dlq-hold-key\"", "R0105", "holding a key"),
        ("[sink]\nkind = \"stdout\"\n[delivery]\non_poison = \"dlq\"", "R0104", "no dlq"),
        ("partitions = 0", "R0103", "more than zero, or -1"),
        ("properties = { \"transactional.id\" = \"x\" }", "R0104", "is refused"),
        ("properties = 5", "R0103", "expected a table, found an integer"),
        ("unsafe = true\nproperties = { acks = \"1\" }", "R0104", "breaks a promise"),
        ("security = { protocol = \"sasl_ssl\" }", "R0104", "needs a mechanism"),
        ("security = { mechanism = \"PLAIN\" }", "R0104", "has no authentication"),
        ("security = { protocol = \"sasl_ssl\", mechanism = \"OAUTHBEARER\" }", "R0104", "needs a `token`"),
        ("security = { protocol = \"ssl\", key_file = \"k\" }", "R0104", "needs `certificate_file`"),
        ("security = { ca_file = \"k\" }", "R0104", "has no TLS"),
        (
            "security = { protocol = \"sasl_ssl\", mechanism = \"PLAIN\", username = \"u\", password = \"a\", \
             password_file = \"b\" }",
            "R0104",
            "both give the same secret",
        ),
        ("[source.log]\nslot = \"Relay\"", "R0103", "is not a slot name"),
        ("[source.log]\nwal_sender_timeout = \"10s\"\nreceive_timeout = \"20s\"", "R0104", "half of that, 5s, counts"),
        ("[source.log]\nstreaming = \"on\"", "R0105", "not implemented"),
        ("[source.log]\nread_coalesce = \"sometimes\"", "R0103", "is not one of"),
        ("[source.log]\nnontransactional_messages = true", "R0104", "names no prefix"),
        ("[format]\nheartbeat_interval = \"0s\"", "R0103", "more than zero"),
        ("[format]\nbinary = \"octal\"", "R0103", "is not one of"),
        ("[[capture]]\ntables = []", "R0103", "at least one table"),
        ("[[capture]]\noperations = [\"upsert\"]", "R0103", "upsert"),
        ("[[capture]]\nfilter = \"a ~ b\"", "R0103", "`~` is not expected"),
        ("[[capture]]\ntopic = \"{nosuch\"", "R0103", "{nosuch"),
        ("[[capture]]\n[capture.columns]\nmask = { \"a.b.c\" = \"rot13\" }", "R0103", "a mask is"),
        (
            "[[capture]]\nkey = [\"k\"]\n[capture.columns]\nmask = { \"*.k\" = \"stars:3\" }",
            "R0104",
            "different values look alike",
        ),
        ("[[capture]]\nkey = [\"a\", \"k\"]\n[capture.columns]\nexclude = [\"s.t.k\"]", "R0104", "the key has it all the same"),
        (
            "[snapshot]\ntables = [\"s.other\"]\n[[capture]]\ntables = [\"s.t\"]",
            "R0104",
            "no `[[capture]]` takes table `s.other`",
        ),
        ("[snapshot]\ntables = [\"public.outbox\"]\n[[capture]]", "R0104", "snapshots are of captured tables alone"),
        ("[snapshot]\nthreads = 65\n[[capture]]", "R0103", "at most 64"),
        ("[[outbox]]\nid = \"id\"", "R0104", "needs a `table` or a `message`"),
        ("[[outbox]]\npreset = \"debezium\"\ntable = \"\"", "R0104", "needs a `table` or a `message`"),
        ("[[outbox]]\ntable = \"public.q\"\npreset = \"pgmq\"", "R0103", "needs a `*` in `table`"),
        ("[[outbox]]\ntable = \"b\"\npreset = \"masstransit\"", "R0103", "docs/presets.md"),
        ("[[outbox]]\ntable = \"b\"\nretention = \"7\"", "R0103", "has no unit"),
        ("[[outbox]]\ntable = \"b\"\nafter_publish = \"delete\"", "R0104", "in log mode"),
        ("[[outbox]]\ntable = \"a.o\"\npreset = \"namastack\"", "R0103", "a condition on `handler_id`"),
        ("[[outbox]]\ntable = \"b\"\ntopic = \"orders.dlq\"", "R0104", "of relay's own"),
        ("[[outbox]]\ntable = \"b\"\ntopic = \"no spaces\"", "R0103", "is not a topic name"),
        ("[outbox2]", "R0102", "unknown key `outbox2`"),
        ("[kafka]\nbrokers = \"x\"", "R0102", "unknown key `kafka`"),
    ] {
        let found = faults(lines);
        assert!(found.iter().any(|(found, message)| *found == code && message.contains(part)), "{lines}: {found:?}");
    }
    for lines in [
        "[source.log]\nstreaming = \"off\"\nspool_max = \"10240MiB\"\nread_coalesce = \"100us\"",
        "[delivery]\nguarantee = \"exactly-once\"\ncommit_interval = \"250ms\"",
        "properties = { \"linger.ms\" = 5, acks = \"all\", \"enable.idempotence\" = true }",
        "[sink]\nkind = \"stdout\"\n[delivery]\non_poison = \"skip\"",
        "[[outbox]]\nmessage = \"outbox\"\npreset = \"wal-message\"\nretention = \"none\"\n\
         [outbox.router]\n\"route.by.field\" = \"x\"",
        "[[outbox]]\ntable = \"pgmq.q_orders\"\npreset = \"pgmq\"",
        "[admin]\nlisten = \"\"\n[log]\nlevel = \"info,relay_kafka=debug\"",
        "[[capture]]\ntables = [\"public.*\", \"s.t\"]\nexclude = [\"public.outbox\"]\noperations = [\"insert\", \"truncate\"]\n\
         key = [\"a\"]\nfilter = \"a = 1\"\nkey_change = \"update\"\n[capture.columns]\nmask = { \"*.email\" = \"stars:3\" }",
        "[snapshot]\ntables = [\"s.t\"]\n[[capture]]\ntables = [\"s.*\"]",
        "[source.log]\nmessages = [\"app.*\"]\nnontransactional_messages = true",
        "[format]\ncompat = \"debezium\"\nschemas = true\ntransaction_metadata = true\nheartbeat_interval = \"10s\"\n[[capture]]",
    ] {
        assert_eq!(faults(lines), [], "{lines}");
    }
}

#[test]
fn polling_has_rules_of_its_own() {
    let found = |lines: &str| -> Vec<(&'static str, String)> {
        let text = SMALLEST.replace("table = \"public.outbox\"", lines);
        let found = read(&text, &[], &["source.mode=\"poll\""]);
        found.report.findings.iter().map(|finding| (finding.kind.directive().code, finding.message.clone())).collect()
    };
    for (lines, code, part) in [
        ("message = \"m\"", "R0104", "in the log alone"),
        ("table = \"a.o\"\npreset = \"debezium-quarkus\"", "R0104", "cannot be polled"),
        ("table = \"a.o\"\npreset = \"namastack\"", "R0103", "a condition on `handler_id`"),
        ("table = \"a.o\"\npreset = \"debezium\"", "R0104", "the marks are the position"),
        ("table = \"a.o\"\norder = \"claim(id)\"", "R0104", "the marks are the position"),
        (
            "table = \"a.o\"\norder = \"claim(id)\"\nafter_publish = \"delete\"\n[delivery]\nguarantee = \"exactly-once\"",
            "R0104",
            "its marks are no part",
        ),
        ("table = \"a.o\"\norder = \"xid\"", "R0103", "tick("),
        ("table = \"a.o\"\n[[capture]]", "R0104", "reads the log"),
        ("table = \"a.o\"\n[source.log]\nmessages = [\"a\"]", "R0104", "in the log alone"),
        ("table = \"a.o\"\n[format]\nheartbeat_interval = \"5s\"", "R0104", "in the log alone"),
        ("table = \"a.o\"\nafter_publish = \"update:a\"", "R0103", "column=literal"),
    ] {
        let found = found(lines);
        assert!(found.iter().any(|(found, message)| *found == code && message.contains(part)), "{lines}: {found:?}");
    }
    for lines in [
        "table = \"a.o\"",
        "table = \"a.o\"\nafter_publish = \"delete\"\nretention = \"7d\"",
        "table = \"public.watermill_orders\"\npreset = \"watermill\"",
        "table = \"a.o\"\npreset = \"debezium\"\norder = \"claim(id)\"\nafter_publish = \"delete\"",
    ] {
        assert_eq!(found(lines), [], "{lines}");
    }
}

#[test]
fn urls_are_checked_without_a_connection() {
    let fault = |url: &str| {
        let found = read(&SMALLEST.replace("postgres://relay@localhost/shop", url), &[], &[]);
        found.report.findings.first().map(|finding| (finding.severity, finding.message.clone()))
    };
    assert_eq!(fault("postgres://relay@db/shop?sslmode=verify-full"), None);
    assert_eq!(fault("postgres://relay@127.0.0.1/shop?sslmode=disable"), None);
    assert_eq!(fault("postgres:///shop?host=/run/postgresql&sslmode=disable"), None);
    assert_eq!(fault("postgres://relay@db/shop?sslmode=disable").unwrap().0, Severity::Warn);
    assert!(fault("postgres://relay@db/shop?sslmode=verify").unwrap().1.contains("is not an sslmode"));
    assert!(fault("mysql://db/shop").unwrap().1.contains("not a PostgreSQL URL"));
    let missing = read("name = \"a\"\n[source]\n[[outbox]]\ntable = \"t\"\n", &[], &[]).report.text(false);
    assert!(missing.contains("`source.url` is missing\n --> relay.toml:2:1"), "{missing}");
    assert!(read("", &[], &[]).report.text(false).contains("`name` is missing\n  --> relay.toml\n"));
}

#[test]
fn layers_win_in_their_order() {
    let variables = [
        ("RELAY__SOURCE__LOG__SLOT", "007"),
        ("RELAY__SINK__KAFKA__BROKERS", "a:9092,b:9092"),
        ("RELAY__SINK__KAFKA__MAX_TOPICS", "7"),
        ("RELAY__SINK__KAFKA__PROPERTIES", "{ \"linger.ms\" = 5, \"client.id\" = \"x\" }"),
        ("RELAY__SINK__KAFKA__PROPERTIES__batch__size", "1000"),
        ("RELAY__ADMIN__HOSTS", "one, two"),
        ("RELAY__SOURCE__PASSWORD_ENV", "PGPASSWORD"),
        ("RELAY__SOURCE__LOG__FAILOVER", "true"),
        ("RELAY_SERVICE_HOST", "10.0.0.1"),
        ("RELAY_PORT", "tcp://10.0.0.1:80"),
    ];
    let sets = [
        "sink.kafka.properties.linger.ms=9",
        "source.log.publication=\"quoted\"",
        "sink.kafka.max_topics=8",
        "admin.hosts=[\"three\"]",
    ];
    let text = format!("{SMALLEST}properties = {{ \"linger.ms\" = 1, \"debug\" = \"all\" }}\n");
    let found = read(&text.replace("[source]", "[source]\npassword = \"c4nary\""), &variables, &sets);
    assert_eq!(found.report.text(false), "");
    let settings = &found.settings;
    assert_eq!((settings.source.log.slot.as_str(), settings.source.log.publication.as_str()), ("007", "quoted"));
    assert_eq!(settings.sink.kafka.brokers.0, ["a:9092", "b:9092"]);
    assert_eq!((settings.sink.kafka.max_topics, settings.source.log.failover), (8, true));
    assert_eq!(settings.admin.hosts, ["three"]);
    let properties: Vec<_> = settings.sink.kafka.properties.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(properties, ["batch.size=1000", "client.id=x", "debug=all", "linger.ms=9"]);
    assert!(settings.source.password.as_ref().is_some_and(|secret| format!("{secret:?}").contains("PGPASSWORD")));
    let origins = origins(&found.tree, &found.report);
    for line in [
        "name = \"orders\" <- relay.toml:1\n",
        "source.password_env = \"PGPASSWORD\" <- env RELAY__SOURCE__PASSWORD_ENV\n",
        "source.log.slot = \"007\" <- env RELAY__SOURCE__LOG__SLOT\n",
        "source.log.publication = \"quoted\" <- --set\n",
        "sink.kafka.properties.\"linger.ms\" = 9 <- --set\n",
        "outbox[0].table = \"public.outbox\" <- relay.toml:6\n",
        "shutdown.grace = \"25s\" <- default\n",
    ] {
        assert!(origins.contains(line), "{line}{origins}");
    }
    assert!(!origins.contains("source.password = "), "a later spelling of a secret takes the place of an earlier one");
}

#[test]
fn the_preset_follows_from_what_the_section_reads() {
    let text = format!(
        "{SMALLEST}[[outbox]]\nmessage = \"m\"\n[[outbox]]\ntable = \"b\"\n[outbox.router]\n\"route.by.field\" = \"x\"\n"
    );
    let found = read(&text, &[], &[]);
    assert_eq!(found.report.text(false), "");
    let presets: Vec<_> = found.settings.outbox.iter().map(|outbox| outbox.preset.as_str()).collect();
    assert_eq!(presets, ["relay", "wal-message", "debezium"]);
}

#[test]
fn a_preset_that_is_named_brings_its_table() {
    let sections = "preset = \"debezium\"\n[[outbox]]\npreset = \"eventuate-tram\"\n[[outbox]]\npreset = \"wal-message\"\n\
                    [[outbox]]\npreset = \"watermill\"\ntable = \"public.mine_*\"\n[[outbox]]\npreset = \"debezium\"\nmessage = \"m\"\n";
    let found = read(&format!("{SMALLEST}[[outbox]]\n{sections}"), &[], &[]);
    assert_eq!(found.report.text(false), "");
    let sources: Vec<_> =
        found.settings.outbox.iter().map(|outbox| (outbox.table.as_deref(), outbox.message.as_deref())).collect();
    assert_eq!(
        sources[1..],
        [
            (Some("public.outboxevent"), None),
            (Some("eventuate.message*"), None),
            (None, Some("outbox")),
            (Some("public.mine_*"), None),
            (None, Some("m"))
        ]
    );
    let twice = read(&format!("{SMALLEST}[[outbox]]\npreset = \"relay\"\n"), &[], &[]).report.text(false);
    assert!(twice.contains("`public.outbox` is also the table of `[[outbox]]` number 1"), "{twice}");
}

#[test]
fn later_files_win() {
    let file = |name: &str, text: &str| SourceText::new(name.to_owned(), text.to_owned());
    let over = "[source.log]\nslot = \"other\"\n[[outbox]]\ntable = \"public.second\"\n";
    let found = inspect_texts(vec![file("a.toml", SMALLEST), file("b.toml", over)], Vec::new(), &[], &[]);
    assert_eq!(found.report.text(false), "");
    assert_eq!((found.settings.source.log.slot.as_str(), found.settings.outbox.len()), ("other", 1));
    assert_eq!(found.settings.outbox[0].table.as_deref(), Some("public.second"));
    assert!(origins(&found.tree, &found.report).contains("source.log.slot = \"other\" <- b.toml:2"));
}

#[test]
fn variables_and_flags_are_named_without_a_caret() {
    let variables = [
        ("RELAY__SOURCE__LOG__SLOTT", "x"),
        ("RELAY__ADMIN__NONSENSE", "x"),
        ("RELAY__OUTBOX__0__TABLE", "x"),
        ("RELAY__SINK__KAFKA__MAX_TOPICS", "many"),
        ("RELAY__SOURCE__MODE", "pull"),
        ("RELAY__sink__kafka__brokers", "x"),
        ("RELAY__", "x"),
        ("RELAY__SINK__KAFKA__PROPERTIES", "linger=5"),
    ];
    let found = read(SMALLEST, &variables, &["sourc.url=x", "nonsense", "log=x", "outbox[0].table=x", "admin.listen=x"]);
    let text = found.report.text(false);
    for part in [
        "unknown variable `RELAY__SOURCE__LOG__SLOTT`\n  --> env RELAY__SOURCE__LOG__SLOTT\n\n\
         hint: did you mean `RELAY__SOURCE__LOG__SLOT`?",
        "hint: the variables here are `RELAY__ADMIN__LISTEN`, `RELAY__ADMIN__TOKEN`",
        "`RELAY__OUTBOX__0__TABLE` cannot be reached from the environment",
        "`sink.kafka.max_topics`: expected an integer, found `many`\n  --> env RELAY__SINK__KAFKA__MAX_TOPICS",
        "`source.mode`: `pull` is not one of `log`, `poll`\n  --> env RELAY__SOURCE__MODE",
        "unknown variable `RELAY__sink__kafka__brokers`",
        "unknown variable `RELAY__`\n",
        "`sink.kafka.properties`: expected one TOML table",
        "unknown key `sourc.url`\n  --> --set sourc.url",
        "`--set` needs a key and a value",
        "unknown key `log`\n  --> --set log",
        "`x` is not an address and a port\n  --> --set admin.listen",
    ] {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
    assert!(!text.contains('^'));
    assert!(!text.contains("RELAY__SOURCE__LOG__SLOT`, `RELAY"), "a near name is hint enough");
}

#[test]
fn markdown_blocks_are_checked_where_they_stand() {
    let text = format!(
        "# Title\n\n```toml\n[source.log]\nslott = 1\nslot = 5\n```\n\n```sh\nname = \n```\n\n\
         ```toml\n{SMALLEST}[admin]\nlisten = \"x\"\n```\n"
    );
    let report = inspect_markdown("page.md", &text);
    let places: Vec<_> =
        report.text(false).lines().filter(|line| line.contains("--> ")).map(|line| line.trim().to_owned()).collect();
    assert_eq!(places, ["--> page.md:5:1", "--> page.md:6:8", "--> page.md:22:10"]);
    assert_eq!(
        inspect_fragment(SourceText::new("x".to_owned(), "[delivery]\nguarantee = \"exactly-once\"".to_owned())).findings,
        []
    );
}

#[test]
fn the_effective_configuration_is_toml_that_says_the_same() {
    let found = read(&format!("{SMALLEST}properties = {{ \"linger.ms\" = 5 }}\n"), &[], &[]);
    let text = effective_toml(&found.tree);
    let again = read(&text, &[], &[]);
    assert_eq!(again.report.text(false), "", "{text}");
    assert_eq!(format!("{:?}", again.settings), format!("{:?}", found.settings).replace("\"5\"", "\"5\""));
    assert_eq!(effective_toml(&again.tree), text);
    assert!(text.contains("\ngrace = \"25s\"\n") && text.contains("checkpoint_topic = \"orders.checkpoint\""));
}

/// The first place that shows the canary.
fn leak(shown: &str) -> Option<&str> {
    let at = shown.find(CANARY)?;
    let from = (at.saturating_sub(200)..=at).find(|from| shown.is_char_boundary(*from))?;
    Some(&shown[from..at + CANARY.len()])
}

#[test]
fn secrets_never_show() {
    let bad = include_str!("fixtures/bad.toml");
    let kafka =
        "[sink.kafka]\nsecurity = { protocol = \"sasl_ssl\", mechanism = \"PLAIN\", pasword = \"c4nary\", token = 'c4nary' }\n";
    let odd = "[source]\nurl = \"host=db password=c4nary\"\npassword = [\"c4nary\"]\n[admin]\ntoken = { a = \"c4nary\" }\n";
    let long = "[source]\npassword = \"\"\"\nc4nary\n\"\"\"\n[sink.kafka.properties]\n\"ssl.key.pem\" = '''\nc4nary'''\n";
    let escaped = "[source]\nurl = \"\\u0070ostgres://a\\u003ac4nary@b\"\nmode = 1\n";
    assert_eq!(leak(&everything(&read(escaped, &[], &[]))), None);
    for text in [bad, kafka, odd, long] {
        assert!(text.contains(CANARY));
        let shown = everything(&read(text, &[], &[]));
        assert_eq!(leak(&shown), None, "{text}");
        // A slip of the fingers anywhere else must not uncover it: cut the text, or leave a byte out.
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            // Each byte on the way to a secret, and some of the others, so that the test stays short.
            let is_near = text.get(at..(at + 40).min(text.len())).is_some_and(|near| near.contains(CANARY));
            if is_near || at % 11 == 0 {
                let without = format!("{}{}", &text[..at], text.get(at + 1..).unwrap_or(""));
                for broken in [text[..at].to_owned(), without] {
                    // Without its colon the password is the end of the user's name.
                    if broken.contains(CANARY) && !broken.contains("relayc4nary") {
                        let shown = everything(&read(&broken, &[], &[]));
                        assert_eq!(leak(&shown), None, "{broken}");
                    }
                }
            }
        }
    }
    let variables = [
        ("RELAY__SOURCE__PASSWORD", CANARY),
        ("RELAY__SOURCE__PASWORD", CANARY),
        ("RELAY__SOURCE__URL", "postgres://relay:c4nary@db/shop?sslmode=oops"),
        ("RELAY__SINK__KAFKA__PROPERTIES", "{ \"sasl.password\" = \"c4nary\" "),
        ("RELAY__SINK__KAFKA__SECURITY__TOKEN", CANARY),
    ];
    let sets = [
        "source.pasword=c4nary",
        "admin.token=c4nary",
        "sink.kafka.properties.sasl.password=c4nary",
        "sink.kafka.security.key_password=[\"c4nary\"]",
    ];
    let shown = everything(&read(SMALLEST, &variables, &sets));
    assert_eq!(leak(&shown), None);
}

#[test]
fn a_missing_secret_file_stops_a_start_and_not_a_check() {
    let path = std::env::temp_dir().join(format!("relay-load-{}.toml", std::process::id()));
    std::fs::write(&path, SMALLEST.replace("[source]", "[source]\npassword_file = \"/no/such/file\"")).unwrap();
    let inputs = Inputs { files: vec![path.clone()], ..Inputs::default() };
    assert_eq!(inspect(&inputs).report.text(false), "");
    let text = load(&inputs).unwrap_err().text(false);
    assert!(text.starts_with("error[R0106]: read the secret file `/no/such/file`") && text.contains(":3:17"), "{text}");
    std::fs::write(&path, SMALLEST).unwrap();
    assert_eq!(load(&inputs).unwrap().settings.name, "orders");
    std::fs::remove_file(&path).unwrap();
    let text = load(&inputs).unwrap_err().text(false);
    assert!(text.contains("error[R0106]") && text.contains("there is no such file") && !text.contains("is missing"), "{text}");
}

#[test]
fn errors_of_the_grammar_have_a_place() {
    let found = read("name = \"orders\nsource = {\n", &[], &[]);
    assert!(found.report.findings.iter().any(|finding| finding.kind == relay_core::Kind::ConfigSyntax));
    assert!(found.report.text(false).contains("--> relay.toml:1:"), "{}", found.report.text(false));
}

/// The body of the fuzz target: whatever the bytes, the reader comes back with findings.
fn read_bytes(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let found = read(&text, &[("RELAY__SINK__KAFKA__PROPERTIES", &text)], &[&text, &format!("source.url={text}")]);
    assert!(!everything(&found).is_empty());
    inspect_markdown("fuzz.md", &text).text(false);
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let corpus = [
        include_str!("fixtures/bad.toml"),
        SMALLEST,
        "```toml\nname = 'x'\n",
        "[[outbox]]\nrouter = { \"a.b\" = 1.5, c = 1979-05-27 }\n",
    ];
    let (start, mut state) = (Instant::now(), 0x9E37_79B9_7F4A_7C15_u64);
    let mut next = |below: usize| {
        // xorshift64: a fixed seed, so that a failure comes back.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    read_bytes("[".repeat(5_000).as_bytes());
    read_bytes(format!("a{} = 1", ".a".repeat(5_000)).as_bytes());
    while start.elapsed() < Duration::from_secs(2) {
        let mut bytes = corpus[next(corpus.len())].as_bytes().to_vec();
        for _ in 0..=next(8) {
            let at = next(bytes.len());
            match next(5) {
                0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] = u8::try_from(next(256)).unwrap(),
                2 => bytes.insert(at, b"\"'[]{}=.\n#\0\xff"[next(12)]),
                3 => drop(bytes.drain(at..(at + next(20)).min(bytes.len()))),
                _ => {
                    let piece = bytes[at..(at + next(40)).min(bytes.len())].to_vec();
                    let to = next(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        read_bytes(&bytes);
    }
}

//! What `relay doctor` prints for people: a line for each finding, then cause, effect and cure of those that need one.

use std::fmt::Write as _;

use super::row::{Row, Status};

/// The report.
pub(super) fn report(rows: &[Row], is_coloured: bool) -> String {
    let mut out = String::new();
    let mut group = None;
    for row in rows {
        if group != Some(row.group()) {
            let gap = if group.is_some() { "\n" } else { "" };
            let _ = writeln!(out, "{gap}{}", row.group().title());
            group = Some(row.group());
        }
        let _ = writeln!(out, "  {} {}  {}", label(row.status, is_coloured), row.id, row.observed);
    }
    for row in rows.iter().filter(|row| row.has_cure()) {
        let _ = writeln!(out, "\n{} {}: {}", label(row.status, is_coloured), row.id, row.observed);
        for (name, text) in [("cause", &row.cause), ("effect", &row.effect), ("fix", &row.fix)] {
            let mut head = format!("{name}:");
            for line in text.lines() {
                let _ = writeln!(out, "  {head:<7} {line}");
                head.clear();
            }
        }
    }
    out
}

/// How many of each there are.
pub(super) fn summary(rows: &[Row]) -> String {
    let count = |status| rows.iter().filter(|row| row.status == status).count();
    let all = [Status::Fail, Status::Warn, Status::Skip, Status::Ok].map(|status| format!("{} {}", count(status), status.name()));
    all.join(", ")
}

/// Four letters wide; colour only repeats what the word says.
fn label(status: Status, is_coloured: bool) -> String {
    let colour = match status {
        Status::Ok => "32",
        Status::Skip => "2",
        Status::Warn => "33",
        Status::Fail => "31",
    };
    let name = format!("{:<4}", status.name());
    if is_coloured { format!("\x1b[{colour}m{name}\x1b[0m") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_first_and_cures_after_them() {
        let rows = [
            Row::ok("PG001", "let in"),
            Row::fail("PG003", "wal_level is replica").because("why").so("what").cure("ALTER SYSTEM;\nrestart"),
            Row::skip("KF001", "no"),
            Row::ok("RL001", "yes"),
        ];
        let expected = "\
PostgreSQL
  ok   PG001  let in
  fail PG003  wal_level is replica

Kafka
  skip KF001  no

relay
  ok   RL001  yes

fail PG003: wal_level is replica
  cause:  why
  effect: what
  fix:    ALTER SYSTEM;
          restart
";
        assert_eq!(report(&rows, false), expected);
        assert_eq!(summary(&rows), "1 fail, 0 warn, 1 skip, 2 ok");
        assert!(report(&rows, true).contains("\x1b[31mfail\x1b[0m PG003"));
    }
}

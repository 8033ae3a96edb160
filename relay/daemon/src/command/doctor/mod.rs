//! `relay doctor`: looks at database, brokers and checkpoint, and says what would not work and how to cure it.

mod capture;
mod outbox;
mod position;
mod row;
mod text;

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use relay_core::checkpoint::{ReadCheckpoint, ReadError, Reading, RecordState};
use relay_core::session::Server;
use relay_encode::{Captures, Route, Routes};
use relay_kafka::CheckpointReader;
use relay_postgres::doctor::{Examined, Expected, Missing, OutboxRule};

use super::refusal::Refusal;
use super::run::load_or_report;
use crate::cli::{DoctorArgs, Flags};
use crate::parts;
use crate::settings::{Create, Settings, SinkKind, SnapshotMode, SourceMode};
use row::{Check, Group, Row, Status};

/// Exit code when a check failed.
const EXIT_PROBLEMS: u8 = 3;
/// Exit code for warnings alone, under `--strict`.
const EXIT_WARNINGS: u8 = 4;

/// Which checks to print.
#[derive(Clone, Debug, Default)]
struct Chosen(Vec<String>);

/// What the checkpoint store says; `None` where the sink keeps no checkpoint.
type Stored = Option<Result<Reading, ReadError>>;

/// Runs the command. Returns the exit code.
pub(crate) fn doctor(flags: &Flags, args: &DoctorArgs) -> u8 {
    let chosen = match Chosen::parse(&args.only) {
        Ok(chosen) => chosen,
        Err(refusal) => return refusal.report(),
    };
    let loaded = match load_or_report(flags) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let mut rows = match look(&loaded.settings, &chosen) {
        Ok(rows) => rows,
        Err(refusal) => return refusal.report(),
    };
    rows.retain(|row| chosen.has(row.id));
    rows.sort_by_key(|row| row.place());
    let out = if flags.is_json() {
        format!("{:#}\n", serde_json::json!({ "findings": rows, "ok": is_ok(&rows) }))
    } else {
        text::report(&rows, flags.is_coloured(std::io::stdout().is_terminal()))
    };
    // A reader that has gone away does not change what was found.
    let _ = std::io::stdout().write_all(out.as_bytes());
    if flags.quiet == 0 && !flags.is_json() {
        eprintln!("\n{}", text::summary(&rows));
    }
    exit_code(&rows, args.strict)
}

/// Every check that the chosen ones need, Kafka first: what is stored there decides what a missing slot means.
fn look(settings: &Settings, chosen: &Chosen) -> Result<Vec<Row>, Refusal> {
    let source = parts::source(settings).map_err(Refusal::config)?;
    let routes = routes(settings)?;
    let captures = parts::captures(settings).map_err(Refusal::config)?;
    let mut rows = Vec::new();
    let mut stored: Stored = None;
    if settings.sink.kind == SinkKind::Stdout {
        rows.extend(row::of(Group::Kafka).map(|check| Row::skip(check.id, "sink.kind is \"stdout\"")));
    } else if chosen.needs_kafka() {
        let config = parts::kafka(settings).map_err(Refusal::config)?;
        if let Some(fault) = config.check().into_iter().next() {
            return Err(Refusal::config(format!("{}: {}", fault.key, fault.text)).hint(fault.hint));
        }
        let topics: Vec<String> = routes.iter().filter_map(|route| route.fixed_topic().map(str::to_owned)).collect();
        let found: Vec<Row> = relay_kafka::doctor::examine(&config, &topics).into_iter().map(Row::from).collect();
        let is_reached = !found.iter().any(|row| row.status == Status::Fail && matches!(row.id, "KF001" | "KF002"));
        stored = Some(match is_reached {
            true => CheckpointReader::of(&config).read(),
            false => Err(ReadError::Unreachable("the brokers cannot be used (KF001, KF002)".into())),
        });
        rows.extend(found);
    }
    if !chosen.needs_postgres() {
        return Ok(rows);
    }
    let reached = match relay_postgres::doctor::reach(&source) {
        Ok(reached) => reached,
        Err(first) => {
            rows.extend(relay_postgres::doctor::unreached(first).into_iter().map(Row::from));
            rows.push(Row::skip("PG012", "not looked at: the server does not let relay in (PG001)"));
            rows.push(Row::skip("RL001", "not looked at: the server does not let relay in (PG001)"));
            return Ok(rows);
        }
    };
    // The slot before the checkpoint: a relay that runs meanwhile moves the checkpoint first and confirms after it.
    let server = inspect(settings, &source);
    if let Some(Ok(reading)) = &mut stored
        && let Ok(config) = parts::kafka(settings)
        && let Ok(newer) = CheckpointReader::of(&config).read()
    {
        *reading = newer;
    }
    let expected = expected(settings, &routes, &captures, &stored);
    let Examined { findings, relations, catalogs } = relay_postgres::doctor::examine(&source, reached, &expected);
    rows.extend(findings.into_iter().map(Row::from));
    rows.extend(outbox::check(&routes, relations.as_ref()));
    if let Some(Ok(relations)) = &relations {
        rows.extend(capture::check(&routes, &captures, relations, &catalogs));
    }
    rows.extend(position::check(settings, server_now(settings, &source, server, &stored), &stored));
    Ok(rows)
}

/// Polling needs no REPLICATION right, not here either.
fn inspect(settings: &Settings, source: &relay_postgres::Source) -> Result<Server, String> {
    let server = match settings.source.mode {
        SourceMode::Poll => source.inspect_polling(&settings.name).map(|(server, _)| server),
        SourceMode::Log => source.inspect(),
    };
    server.map_err(|error| error.to_string())
}

/// The server as it was before the checkpoint was read, with the end of its WAL as it is after.
fn server_now(
    settings: &Settings,
    source: &relay_postgres::Source,
    before: Result<Server, String>,
    stored: &Stored,
) -> Result<Server, String> {
    let mut server = before?;
    let end = match stored {
        Some(Ok(reading)) => reading.newest.as_ref().and_then(|record| record.end_lsn),
        _ => None,
    };
    if end.is_some_and(|end| end > server.wal_end)
        && let Ok(after) = inspect(settings, source)
    {
        server.wal_end = after.wal_end;
    }
    Ok(server)
}

fn routes(settings: &Settings) -> Result<Routes, Refusal> {
    let format = parts::format(settings);
    let mut routes = Vec::new();
    for (index, outbox) in settings.outbox.iter().enumerate() {
        match Route::new(parts::outbox_settings(outbox), &format) {
            Ok(route) => routes.push(route),
            Err(errors) => {
                let text: Vec<String> = errors.iter().map(|error| format!("outbox[{index}].{error}")).collect();
                return Err(Refusal::config(text.join("; ")));
            }
        }
    }
    Ok(Routes::new(routes))
}

fn expected(settings: &Settings, routes: &Routes, captures: &Captures, stored: &Stored) -> Expected {
    let log = &settings.source.log;
    let missing = match stored {
        _ if log.create == Create::Never => Missing::Refused("source.log.create is \"never\"".into()),
        Some(Err(error)) => Missing::Unknown(format!("the checkpoint cannot be read: {error}")),
        Some(Ok(Reading { newest: Some(record), .. })) if record.state != RecordState::Bootstrapping => {
            let end = record.end_lsn.unwrap_or_default();
            Missing::Refused(format!("the checkpoint stands at {end}: relay creates a slot at its very first start alone"))
        }
        _ => Missing::Created,
    };
    let rules = Arc::new(crate::stream::Routes::new(routes.clone(), captures.clone()));
    let (names, insisted) = (Arc::clone(&rules), Arc::clone(&rules));
    let (captured, outboxes) = (captures.clone(), routes.clone());
    let has_snapshots = settings.snapshot.mode != SnapshotMode::Never;
    Expected {
        wanted: Arc::new(move |name: &str| names.names_table(name)),
        insists: Arc::new(move |name: &str| insisted.insists_on(name)),
        captured: Arc::new(move |name: &str| captured.names_table(name) && !outboxes.names_table(name)),
        missing,
        wal_budget_bytes: log.wal_budget.map(|size| size.bytes()),
        is_poll: settings.source.mode == SourceMode::Poll,
        outbox: Arc::new(move |name: &str| {
            let (retention, timestamp) = rules.retention(name).unwrap_or_default();
            let is_captured = has_snapshots && rules.captures().names_table(name) && !rules.names_outbox(name);
            OutboxRule { rule: rules.poll_rule(name), timestamp, is_pruned: retention.is_some(), is_captured }
        }),
    }
}

/// Whether no check failed.
fn is_ok(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.status != Status::Fail)
}

fn exit_code(rows: &[Row], is_strict: bool) -> u8 {
    match rows.iter().map(|row| row.status).max() {
        Some(Status::Fail) => EXIT_PROBLEMS,
        Some(Status::Warn) if is_strict => EXIT_WARNINGS,
        _ => 0,
    }
}

// === impl Chosen ===

impl Chosen {
    fn parse(only: &[String]) -> Result<Self, Refusal> {
        let wanted: Vec<String> = only.iter().map(|id| id.trim().to_ascii_uppercase()).filter(|id| !id.is_empty()).collect();
        let known = |id: &String| row::CHECKS.iter().any(|check| check.id == id);
        match wanted.iter().find(|id| !known(id)) {
            None => Ok(Self(wanted)),
            Some(id) => {
                let ids: Vec<&str> = row::CHECKS.iter().map(|check| check.id).collect();
                Err(Refusal::usage(format!("`{id}` is not a check of this version"), format!("there are {}", ids.join(", "))))
            }
        }
    }

    fn has(&self, id: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted == id)
    }

    /// What is stored decides what a missing slot or publication means.
    fn needs_kafka(&self) -> bool {
        self.any(|check| check.group != Group::Postgres || matches!(check.id, "PG006" | "PG010"))
    }

    fn needs_postgres(&self) -> bool {
        self.any(|check| check.group != Group::Kafka)
    }

    fn any(&self, needs: impl Fn(&Check) -> bool) -> bool {
        row::CHECKS.iter().any(|check| self.has(check.id) && needs(check))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fail_is_three_and_warnings_count_only_when_strict() {
        let rows = |all: &[Status]| all.iter().map(|status| Row::new("PG003", *status, "x")).collect::<Vec<_>>();
        use Status::{Fail, Ok, Skip, Warn};
        for (all, code, strict) in
            [(&[][..], 0, 0), (&[Ok, Skip][..], 0, 0), (&[Ok, Warn, Skip][..], 0, 4), (&[Warn, Fail, Ok][..], 3, 3)]
        {
            assert_eq!((exit_code(&rows(all), false), exit_code(&rows(all), true)), (code, strict), "{all:?}");
        }
        assert!(is_ok(&rows(&[Ok, Warn])) && !is_ok(&rows(&[Fail])));
    }

    #[test]
    fn only_names_checks_of_this_version() {
        let chosen = Chosen::parse(&["pg003".into(), " KF001 ".into()]).unwrap();
        assert!(chosen.has("PG003") && !chosen.has("PG004") && chosen.needs_kafka() && chosen.needs_postgres());
        let refusal = Chosen::parse(&["PG099".into()]).unwrap_err();
        assert_eq!(refusal.code, 64);
        assert!(refusal.text().contains("`PG099` is not a check of this version"));
        let sql = Chosen::parse(&["PG003".into()]).unwrap();
        assert!(!sql.needs_kafka() && Chosen::default().needs_kafka());
        assert!(!Chosen::parse(&["KF001".into()]).unwrap().needs_postgres());
    }

    #[test]
    fn what_is_stored_decides_what_a_missing_slot_means() {
        let mut settings = Settings::default();
        let captures = parts::captures(&settings).unwrap();
        let missing = |settings: &Settings, stored: Stored| expected(settings, &Routes::default(), &captures, &stored).missing;
        assert_eq!(missing(&settings, None), Missing::Created);
        assert_eq!(missing(&settings, Some(Ok(Reading::default()))), Missing::Created);
        let unread = Some(Err(ReadError::Unreachable("x".into())));
        assert!(matches!(missing(&settings, unread), Missing::Unknown(_)));
        let reading = |state| Reading::of([position::tests::record(state, Some("0/5"))]);
        assert_eq!(missing(&settings, Some(Ok(reading(RecordState::Bootstrapping)))), Missing::Created);
        assert!(
            matches!(missing(&settings, Some(Ok(reading(RecordState::Running)))), Missing::Refused(why) if why.contains("0/5"))
        );
        settings.source.log.create = Create::Never;
        assert!(matches!(missing(&settings, None), Missing::Refused(_)));
    }
}

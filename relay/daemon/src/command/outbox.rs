//! `relay outbox prune`: by hand what `retention` does while relay runs.

use std::io::Write;
use std::time::Duration;

use relay_core::Kind;
use relay_core::checkpoint::{Mode, ReadCheckpoint, Record};
use relay_core::session::check_published;
use relay_kafka::CheckpointReader;
use relay_postgres::poll::PollOrder;
use relay_postgres::prune::Pruned;

use super::confirm::confirm;
use super::refusal::{EXIT_BUSY, Refusal};
use super::run::load_or_report;
use crate::cli::{Flags, OutboxAction, OutboxArgs, PruneArgs};
use crate::parts;
use crate::retention::{Plan, plans};
use crate::settings::{Settings, SinkKind};

/// Runs the command. Returns the exit code.
pub(crate) fn outbox(flags: &Flags, args: &OutboxArgs) -> u8 {
    let settings = match load_or_report(flags) {
        Ok(loaded) => loaded.settings,
        Err(code) => return code,
    };
    let OutboxAction::Prune(args) = &args.action;
    prune(flags, &settings, args).map_or_else(|refusal| refusal.report(), |()| 0)
}

fn prune(flags: &Flags, settings: &Settings, args: &PruneArgs) -> Result<(), Refusal> {
    let source = parts::source(settings).map_err(Refusal::config)?;
    let routes = parts::routes(settings).map_err(Refusal::config)?;
    let record = newest(settings)?;
    let (server, _) = source.inspect_polling(&settings.name)?;
    if (&record.system_id, &record.database) != (&server.system_id, &server.database) {
        let message = format!(
            "the checkpoint belongs to system id {}, database {}; this is system id {}, database {}",
            record.system_id, record.database, server.system_id, server.database
        );
        return Err(Refusal::of(Kind::CheckpointForeign, message));
    }
    check_published(&server, &record).map_err(|fault| Refusal::of(fault.kind, fault.message))?;
    let mut connection = source.connect_polling(&[])?;
    let tables = source.outbox_tables(&mut connection, &|name| routes.poll_rule(name).is_some())?;
    let wanted: Vec<&String> = tables.iter().filter(|name| args.table.as_ref().is_none_or(|table| *name == table)).collect();
    if wanted.is_empty() {
        let table = args.table.as_deref().unwrap_or("any table");
        return Err(Refusal::refused(format!("no [[outbox]] with an order takes {table}"), "`relay check` shows the routes"));
    }
    let is_log = record.mode == Mode::Log.name();
    let mut made = Vec::new();
    for name in wanted {
        let mut plan = plans(&routes, name, record.published(), is_log).map_err(|why| {
            let is_tick = routes.poll_rule(name).is_some_and(|rule| matches!(rule.order, PollOrder::Tick { .. }));
            let hint = match is_tick {
                true => "`relay run` stores one within some seconds; then try again",
                false => "give it an xid8 column for order `tick`: `relay preset sql NAME --mode poll` prints how",
            };
            Refusal::refused(format!("{name}: {why}"), hint)
        })?;
        age(&mut plan, name, args.older_than)?;
        made.push(plan);
    }
    if !args.change.dry_run && !args.change.yes {
        let tables: Vec<&str> = made.iter().map(|plan| plan.prune.table.as_str()).collect();
        let (name, tables) = (&settings.name, tables.join(", "));
        let question = format!("This deletes published rows of {tables}. Type the pipeline's name, {name},");
        confirm(&question, name, "nothing was deleted", &mut std::io::stdin().lock())?;
    }
    for mut plan in made {
        plan.prune.is_dry = args.change.dry_run;
        let pruned = plan.prune.run(&mut connection, |_| true).map_err(|error| failed(&plan.prune.table, error))?;
        print(flags, &plan.prune.table, &pruned, args.change.dry_run);
    }
    Ok(())
}

/// What ended it; a lock that somebody holds is no fault of the server's.
fn failed(table: &str, error: relay_postgres::Error) -> Refusal {
    match error {
        relay_postgres::Error::Wire(error) if error.sqlstate() == Some("55P03") => {
            let message = format!("{table}: {error}");
            Refusal::refused(message, "somebody holds a lock on its rows; what has gone by now stays gone").code(EXIT_BUSY)
        }
        error => error.into(),
    }
}

/// How old a row must be to go.
fn age(plan: &mut Plan, table: &str, told: Option<Duration>) -> Result<(), Refusal> {
    let Some(age) = told.or(plan.retention) else {
        let hint = "`--older-than 7d`, or `retention` in the [[outbox]]; `--older-than 0s` takes every published row";
        return Err(Refusal::usage(format!("{table} has no `retention`: say how old a row must be"), hint));
    };
    match &plan.timestamp {
        Some(column) => plan.prune.older_than = Some((column.clone(), age)),
        None if age.is_zero() => plan.prune.older_than = None,
        None => {
            let message = format!("{table}: nothing tells how old a row is, its [[outbox]] has no `timestamp` column");
            return Err(Refusal::refused(message, "name one, or take every published row with `--older-than 0s`"));
        }
    }
    Ok(())
}

fn newest(settings: &Settings) -> Result<Record, Refusal> {
    if settings.sink.kind == SinkKind::Stdout {
        return Err(Refusal::refused("sink.kind is \"stdout\", which keeps no checkpoint", "nothing proves what is published"));
    }
    let kafka = parts::kafka(settings).map_err(Refusal::config)?;
    let record = CheckpointReader::of(&kafka).read()?.newest;
    record.ok_or_else(|| {
        let message = format!("no checkpoint of pipeline `{}` in topic {}", settings.name, settings.delivery.checkpoint_topic);
        Refusal::refused(message, "nothing proves what is published before `relay run` has stored one")
    })
}

fn print(flags: &Flags, table: &str, pruned: &Pruned, is_dry: bool) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away does not change what was done.
    let _ = if flags.is_json() {
        let kept: Vec<_> =
            pruned.kept.iter().map(|(name, reason)| serde_json::json!({ "partition": name, "reason": reason })).collect();
        let partitions = &pruned.partitions;
        let line = serde_json::json!({
            "table": table, "rows": pruned.rows, "partitions": partitions, "kept": kept, "dry_run": is_dry
        });
        writeln!(out, "{line}")
    } else {
        let verb = if is_dry { "would go" } else { "are gone" };
        let mut text = format!("{table}: {} rows {verb}", pruned.rows);
        for partition in &pruned.partitions {
            text.push_str(&format!("\n{partition}: the whole partition {}", if is_dry { "would go" } else { "is gone" }));
        }
        for (partition, reason) in &pruned.kept {
            text.push_str(&format!("\n{partition}: stays as a whole, {reason}"));
        }
        writeln!(out, "{text}")
    };
}

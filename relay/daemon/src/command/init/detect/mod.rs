//! `relay init --detect`: looks at a database, names the preset of each table that may be an outbox, and writes only where told.

mod file;
mod judge;
mod notes;
mod rows;

use std::io::Write;
use std::path::Path;

use relay_encode::Mode;
use relay_encode::detect::{Candidate, Fit, Grade, detect};
use relay_postgres::detect::{Asked, Look, Survey, Table};

use super::{Wish, exists, write_new};
use crate::cli::{Flags, InitArgs};
use crate::command::refusal::Refusal;
use crate::settings::printable;
use file::File;
use judge::{Case, Found};

const URL_HINT: &str = "a libpq URL of any role that may connect: `postgres://reader@db:5432/shop`";

/// Runs the command.
pub(super) fn run(flags: &Flags, args: &InitArgs, url: &str) -> Result<(), Refusal> {
    let mut wish = Wish::new(args)?;
    if let Some(file) = args.out.as_deref().filter(|file| !args.dry_run && file.symlink_metadata().is_ok()) {
        return Err(exists(file));
    }
    let wire = super::wire("--detect", url, URL_HINT)?;
    let asked = Asked { table: args.table.clone(), role: wish.role.clone(), publication: wish.publication() };
    let mut look = Look::begin(&wire)?;
    let survey = look.survey(&asked).map_err(too_slow)?;
    let seen = seen(args.table.as_deref(), &survey)?;
    let (pipeline, publication, mode) = (&wish.name, wish.publication(), mode(&survey, &seen));
    let case = Case { pipeline, publication, server: &survey.server, mode };
    let mut judge = |(table, fits): (&Table, Vec<Fit>)| {
        let told = fits.first().map(|fit| rows::ask(table, fit, !args.no_sample, &mut look)).unwrap_or_default();
        judge::judge(&case, table, fits, &told)
    };
    let mut found: Vec<Found> = seen.into_iter().map(&mut judge).collect();
    look.end();
    found.sort_by_key(|found| std::cmp::Reverse(found.fit.grade));
    // What is proposed where nothing fits must not collide with a table that is there.
    wish.table = Some(if survey.server.has_outbox { "public.relay_outbox" } else { "public.outbox" }.to_owned());
    let source_url = super::apply::source_url(url, &wire, &wish.role);
    let file = File { wish: &wish, survey: &survey, mode, found: &found, url: source_url };
    print(flags, &file, args.table.as_deref());
    match &args.out {
        Some(out) => write(flags, out, args.dry_run, &file),
        None => Ok(()),
    }
}

/// The tables that look like outboxes, each with what it fits.
fn seen<'a>(wanted: Option<&str>, survey: &'a Survey) -> Result<Vec<(&'a Table, Vec<Fit>)>, Refusal> {
    let mut tables: Vec<&Table> = survey.tables.iter().collect();
    if let Some(wanted) = wanted {
        let (exact, others): (Vec<&Table>, Vec<&Table>) = tables.into_iter().partition(|table| table.raw() == wanted);
        if exact.is_empty() {
            let names: Vec<String> = others.iter().map(|table| format!("`{}`", printable(&table.raw()))).collect();
            let hint = match names.as_slice() {
                [] => "leave `--table` out to look at every table of the database".to_owned(),
                names => format!("the case counts: there is {}", names.join(", ")),
            };
            return Err(Refusal::refused(format!("there is no table `{}`", printable(wanted)), hint));
        }
        tables = exact;
    }
    let fits = |table: &'a Table| {
        let (schema, name) = (table.relation.schema.to_string(), table.relation.name.to_string());
        detect(&Candidate { schema, table: name, columns: table.types.clone() })
    };
    Ok(tables.into_iter().map(|table| (table, fits(table))).filter(|(_, fits)| !fits.is_empty()).collect())
}

/// The log, unless the server does not write it, or not one of the tables that fit is in it.
fn mode(survey: &Survey, seen: &[(&Table, Vec<Fit>)]) -> Mode {
    let is_exact = |fits: &[Fit]| fits.first().is_some_and(|fit| fit.grade == Grade::Exact);
    let mut exact = seen.iter().filter(|(_, fits)| is_exact(fits)).map(|(table, _)| table).peekable();
    let all_unlogged = exact.peek().is_some() && exact.all(|table| table.is_unlogged);
    if survey.server.wal_level != "logical" || all_unlogged { Mode::Poll } else { Mode::Log }
}

/// A catalog that cannot be read within the time-out.
fn too_slow(error: relay_postgres::Error) -> Refusal {
    let is_timeout = matches!(&error, relay_postgres::Error::Wire(error) if error.sqlstate() == Some("57014"));
    let refusal = Refusal::from(error);
    if is_timeout {
        refusal.hint("the catalogs took longer than 5 s: name one table with `--table public.outbox`")
    } else {
        refusal
    }
}

/// Candidates on stdout, all else on stderr.
fn print(flags: &Flags, file: &File<'_>, wanted: Option<&str>) {
    let mut out = std::io::stdout().lock();
    let width = file.found.iter().map(|found| printable(&found.table).chars().count()).max().unwrap_or(0);
    for found in file.found {
        let (preset, fit) = (found.preset.map(|preset| preset.name), &found.fit);
        // A reader that has gone away wants no more.
        let _ = if flags.is_json() {
            let line = serde_json::json!({ "table": found.table, "preset": preset, "fit": fit.percent, "missing": fit.missing });
            writeln!(out, "{line}")
        } else {
            let missing = if fit.missing.is_empty() { "-".to_owned() } else { fit.missing.join(",") };
            let table = printable(&found.table);
            writeln!(out, "{table:width$}  {:24}  {:>3}%  {missing}", preset.unwrap_or("-"), fit.percent)
        };
    }
    if flags.quiet == 0 {
        eprint!("{}", file.report());
    }
    if !file.found.is_empty() {
        return;
    }
    let sql = file.proposal();
    let said = match wanted {
        Some(table) => format!("{} does not look like an outbox", printable(table)),
        None => "no table looks like an outbox".to_owned(),
    };
    if flags.quiet == 0 {
        eprintln!("{said}; this SQL makes one:");
    }
    let _ = if flags.is_json() { writeln!(out, "{}", serde_json::json!({ "proposal": sql })) } else { write!(out, "{sql}") };
}

fn write(flags: &Flags, out: &Path, is_dry: bool, file: &File<'_>) -> Result<(), Refusal> {
    let said = if is_dry {
        format!("dry run: {} was not written", out.display())
    } else {
        write_new(out, &file.text())?;
        format!("wrote {}\n\nnext: read it, run the SQL at its end, then `relay doctor -c {}`", out.display(), out.display())
    };
    if flags.quiet == 0 {
        eprintln!("{said}");
    }
    Ok(())
}

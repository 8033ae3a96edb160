//! `relay init`: writes a commented configuration and prints, or runs, the SQL for table, role, rights and publication.

mod apply;
mod capture;
mod detect;
mod entry;
mod script;
mod template;

use std::io::Write;
use std::path::Path;

use relay_encode::Preset;

use super::refusal::Refusal;
use crate::cli::{Flags, InitArgs};
use crate::settings::Inputs;
use script::Script;
use template::Template;

/// What the pipeline is to be.
#[derive(Clone, Debug)]
struct Wish {
    name: String,
    preset: &'static Preset,
    /// Whether an outbox is wanted at all.
    has_outbox: bool,
    /// `schema.table`, or a preset's glob; none for messages.
    table: Option<String>,
    /// Globs over `schema.table`.
    captures: Vec<String>,
    role: String,
    application: Option<String>,
}

/// Runs the command. Returns the exit code.
pub(crate) fn init(flags: &Flags, args: &InitArgs) -> u8 {
    let done = match &args.detect {
        Some(url) => detect::run(flags, args, url),
        None => start(flags, args),
    };
    done.map_or_else(|refusal| refusal.report(), |()| 0)
}

/// A connection from a URL of the command line; its password may come from PGPASSWORD.
fn wire(flag: &str, url: &str, hint: &str) -> Result<relay_pgwire::Config, Refusal> {
    let mut wire = relay_pgwire::Config::parse(url).map_err(|error| Refusal::usage(format!("{flag}: {error}"), hint))?;
    wire.set_default_application_name("relay_init");
    if !wire.has_password()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        wire.set_password(password);
    }
    Ok(wire)
}

fn start(flags: &Flags, args: &InitArgs) -> Result<(), Refusal> {
    let wish = Wish::new(args)?;
    // Where every other command looks when no file is named.
    let default = || Inputs::from_process(&[], &[]).files.into_iter().next().unwrap_or_default();
    let file = args.out.clone().unwrap_or_else(default);
    if !args.dry_run && file.symlink_metadata().is_ok() {
        return Err(exists(&file));
    }
    let say = |text: &str| {
        if flags.quiet == 0 {
            eprintln!("{text}");
        }
    };
    let (sql, url) = match &args.apply {
        None => (Script::new(&wish, args.server_version).text(), None),
        Some(url) => {
            let applied = apply::run(&wish, url, args.dry_run)?;
            applied.notes.iter().for_each(|note| say(note));
            (applied.sql, Some(applied.source_url))
        }
    };
    // The file comes last, so that a failed run can simply be repeated.
    let text = Template::of(&wish, url.as_deref()).text();
    if args.dry_run {
        say(&format!("dry run: {} was not written", file.display()));
    } else {
        write_new(&file, &text)?;
        say(&format!("wrote {}", file.display()));
    }
    // A reader that has gone away does not change what was done.
    let _ = std::io::stdout().write_all(sql.as_bytes());
    if wish.has_outbox && !wish.preset.requires_match.is_empty() {
        say(&format!("`match` on {} is yours to write: `relay check` refuses the file without it", wish.preset.requires_match));
    }
    let sql_first = if args.apply.is_some() { "" } else { "run the SQL as the owner of the database, " };
    let role = &wish.role;
    say(&format!("\nnext: {sql_first}give role {role} a password or a certificate, then `relay doctor -c {}`", file.display()));
    Ok(())
}

/// Whether a table given on the command line is one, with its schema.
fn check_table(table: &str) -> Result<(), Refusal> {
    let is_whole = table.split_once('.').is_some_and(|(schema, name)| !schema.is_empty() && !name.is_empty());
    if is_whole && !table.contains(['*', '\0']) {
        return Ok(());
    }
    let hint = "write schema and name: `--table public.outbox`";
    Err(Refusal::usage(format!("`{}` does not name one table", table.escape_debug()), hint))
}

/// Whether a glob given on the command line is one over schemas and tables.
fn check_glob(glob: &str) -> Result<(), Refusal> {
    if glob.split_once('.').is_some_and(|(schema, name)| !schema.is_empty() && !name.is_empty()) && !glob.contains('\0') {
        return Ok(());
    }
    let hint = "write schema and name, each of which may have `*`: `--capture 'public.*'`";
    Err(Refusal::usage(format!("`{}` names no tables", glob.escape_debug()), hint))
}

fn exists(file: &Path) -> Refusal {
    Refusal::refused(format!("{} exists and stays as it is", file.display()), "name another file with `-o FILE`")
}

fn write_new(file: &Path, text: &str) -> Result<(), Refusal> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(file),
        _ => Refusal::refused(format!("write {}: {error}", file.display()), "name another file with `-o FILE`"),
    };
    let mut open = std::fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
    open.write_all(text.as_bytes()).map_err(failed)
}

// === impl Wish ===

impl Wish {
    fn new(args: &InitArgs) -> Result<Self, Refusal> {
        let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if args.name.is_empty() || args.name.len() > 50 || !args.name.chars().all(is_legal) {
            let hint = "1 to 50 of the letters a to z, digits and `_`: a slot name allows nothing else";
            return Err(Refusal::usage(format!("`{}` cannot be a pipeline's name", args.name.escape_debug()), hint));
        }
        let preset = Preset::find(args.preset.as_deref().unwrap_or("relay"))
            .map_err(|error| Refusal::usage(error.to_string(), error.hint))?;
        let defaults = preset.settings().map_err(|error| Refusal::usage(error.to_string(), ""))?;
        if args.role.is_empty() {
            return Err(Refusal::usage("the role has no name", "`--role relay`"));
        }
        let table = match (&args.table, defaults.table) {
            (Some(_), None) => {
                let hint = "leave `--table` out, or choose `--preset relay`";
                return Err(Refusal::usage(format!("preset `{}` reads messages and has no table", preset.name), hint));
            }
            (Some(table), Some(_)) => Some(table.clone()),
            (None, table) => table,
        };
        if let Some(table) = &args.table {
            check_table(table)?;
        }
        args.capture.iter().try_for_each(|glob| check_glob(glob))?;
        let has_outbox = args.capture.is_empty() || args.preset.is_some() || args.table.is_some();
        Ok(Self {
            name: args.name.clone(),
            preset,
            has_outbox,
            table: table.filter(|_| has_outbox),
            captures: args.capture.clone(),
            role: args.role.clone(),
            application: args.application.clone(),
        })
    }

    /// Publication and slot are named after the pipeline.
    fn publication(&self) -> String {
        format!("relay_{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn wish(preset: &str) -> Wish {
        let args = InitArgs { name: "orders".into(), preset: Some(preset.into()), role: "relay".into(), ..InitArgs::default() };
        Wish::new(&args).unwrap()
    }

    #[test]
    fn a_wish_that_cannot_be_met_is_a_usage_error() {
        let good = InitArgs { name: "orders".into(), preset: Some("relay".into()), role: "relay".into(), ..InitArgs::default() };
        assert_eq!(Wish::new(&good).unwrap().table.as_deref(), Some("public.outbox"));
        let table = |table: &str| Some(table.to_owned());
        for bad in [
            InitArgs { name: "Orders".into(), ..good.clone() },
            InitArgs { name: String::new(), ..good.clone() },
            InitArgs { preset: Some("axon".into()), ..good.clone() },
            InitArgs { preset: Some("wal-message".into()), table: table("public.x"), ..good.clone() },
            InitArgs { table: table("outbox"), ..good.clone() },
            InitArgs { table: table("public.*"), ..good.clone() },
            InitArgs { role: String::new(), ..good.clone() },
            InitArgs { capture: vec!["users".into()], ..good.clone() },
        ] {
            assert_eq!(Wish::new(&bad).unwrap_err().code, 64, "{bad:?}");
        }
    }

    #[test]
    fn an_existing_file_stays() {
        let file = std::env::temp_dir().join(format!("relay-init-{}", std::process::id()));
        std::fs::write(&file, "mine").unwrap();
        let args = InitArgs {
            out: Some(file.clone()),
            name: "orders".into(),
            preset: Some("relay".into()),
            role: "relay".into(),
            ..InitArgs::default()
        };
        assert_eq!(init(&Flags::default(), &args), 1);
        assert_eq!(write_new(&file, "theirs").unwrap_err().code, 1);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        std::fs::remove_file(&file).unwrap();
    }
}

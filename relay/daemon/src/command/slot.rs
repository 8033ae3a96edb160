//! `relay slot`: how the slot stands, and its end.

use std::io::Write;

use relay_core::Kind;

use super::confirm::confirm;
use super::refusal::Refusal;
use super::run::load_or_report;
use crate::cli::{ChangeArgs, Flags, SlotAction, SlotArgs};
use crate::parts;
use crate::settings::{Settings, SourceMode};

/// Runs the command. Returns the exit code.
pub(crate) fn slot(flags: &Flags, args: &SlotArgs) -> u8 {
    let settings = match load_or_report(flags) {
        Ok(loaded) => loaded.settings,
        Err(code) => return code,
    };
    let done = match &args.action {
        SlotAction::Show => show(flags, &settings),
        SlotAction::Drop(change) => drop_slot(flags, &settings, *change),
    };
    done.map_or_else(|refusal| refusal.report(), |()| 0)
}

fn show(flags: &Flags, settings: &Settings) -> Result<(), Refusal> {
    let source = parts::source(settings).map_err(Refusal::config)?;
    let name = &settings.source.log.slot;
    let watched = source.watch(&mut source.connect()?)?;
    if !watched.has_slot {
        return Err(missing(name));
    }
    let (confirmed, restart) = (watched.confirmed_lsn.to_string(), watched.restart_lsn.to_string());
    let retained = watched.wal_end.bytes_since(watched.restart_lsn);
    let (pid, status) = (watched.active_pid, watched.wal_status.unwrap_or_default());
    let text = if flags.is_json() {
        serde_json::json!({
            "name": name, "active_pid": pid, "confirmed_lsn": confirmed, "restart_lsn": restart, "retained_bytes": retained,
            "wal_status": status, "safe_wal_bytes": watched.safe_wal_bytes
        })
        .to_string()
    } else {
        let reader = pid.map_or_else(|| "nobody reads it".to_owned(), |pid| format!("read by pid {pid}"));
        format!("{name}: {reader}, confirmed {confirmed}, restart {restart}, {retained} bytes of WAL retained, {status}")
    };
    // A reader that has gone away wants no more.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

fn drop_slot(flags: &Flags, settings: &Settings, change: ChangeArgs) -> Result<(), Refusal> {
    let source = parts::source(settings).map_err(Refusal::config)?;
    let name = &settings.source.log.slot;
    let watched = source.watch(&mut source.connect()?)?;
    if !watched.has_slot {
        return Err(missing(name));
    }
    if let Some(pid) = watched.active_pid {
        return Err(Refusal::of(Kind::SlotBusy, format!("slot `{name}` is active for pid {pid}")).hint("stop its reader first"));
    }
    let what = match settings.source.mode {
        SourceMode::Poll => format!(
            "Polling does not need slot `{name}`; {} bytes of WAL are freed.",
            watched.wal_end.bytes_since(watched.restart_lsn)
        ),
        SourceMode::Log => format!(
            "Everything that commits after {} and is not in the checkpoint will not be published: dropping slot `{name}` makes a gap.",
            watched.confirmed_lsn
        ),
    };
    if change.dry_run {
        eprintln!("dry run: slot `{name}` stays. {what}");
        return Ok(());
    }
    if !change.yes {
        confirm(&format!("{what} Type the slot's name"), name, "the slot stays", &mut std::io::stdin().lock())?;
    }
    source.drop_slot()?;
    if flags.quiet == 0 {
        eprintln!("slot `{name}` is dropped");
    }
    Ok(())
}

fn missing(name: &str) -> Refusal {
    Refusal::of(Kind::SlotMissing, format!("slot `{name}` does not exist")).hint("nothing holds WAL back under that name")
}

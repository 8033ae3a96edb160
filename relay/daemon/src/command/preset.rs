//! `relay preset`: presets are data; this prints them, and the SQL that they need, and touches no server.

use std::io::Write;

use relay_encode::sql::{SqlOptions, preset_sql};
use relay_encode::{Mode, PRESETS, Preset};

use super::refusal::Refusal;
use crate::cli::{Flags, ModeFlag, PresetAction, PresetArgs, PresetSqlArgs};

/// Runs the command. Returns the exit code.
pub(crate) fn preset(flags: &Flags, args: &PresetArgs) -> u8 {
    let text = match &args.action {
        PresetAction::List => Ok(list(flags)),
        PresetAction::Show { name } => show(flags, name),
        PresetAction::Sql(args) => sql(args),
    };
    match text {
        Ok(text) => {
            // A reader that has gone away wants no more.
            let _ = std::io::stdout().write_all(text.as_bytes());
            0
        }
        Err(refusal) => refusal.report(),
    }
}

fn list(flags: &Flags) -> String {
    let line = |preset: &Preset| {
        if flags.is_json() {
            let (name, tier, modes) = (preset.name, preset.tier, preset.modes());
            format!("{}\n", serde_json::json!({ "name": name, "tier": tier, "modes": modes }))
        } else {
            format!("{:24} {:4} {}\n", preset.name, preset.tier, preset.modes().join(", "))
        }
    };
    PRESETS.iter().map(line).collect()
}

fn show(flags: &Flags, name: &str) -> Result<String, Refusal> {
    let preset = find(name)?;
    if flags.is_json() {
        let (modes, toml) = (preset.modes(), preset.toml);
        let line = serde_json::json!({ "name": name, "tier": preset.tier, "modes": modes, "warn": preset.warn, "toml": toml });
        return Ok(format!("{line}\n"));
    }
    let mut text = format!("# tier {}, modes: {}\n", preset.tier, preset.modes().join(", "));
    if !preset.no_poll.is_empty() {
        text.push_str(&format!("# not polled: {}\n", preset.no_poll));
    }
    if !preset.warn.is_empty() {
        text.push_str(&format!("# note: {}\n", preset.warn));
    }
    Ok(text + preset.toml)
}

fn sql(args: &PresetSqlArgs) -> Result<String, Refusal> {
    if args.table.as_deref().is_some_and(|table| !is_table(table)) {
        let table = args.table.as_deref().unwrap_or_default();
        return Err(Refusal::usage(format!("`{}` does not name one table", table.escape_debug()), "`--table public.outbox`"));
    }
    let options = SqlOptions {
        table: args.table.clone(),
        role: args.role.clone(),
        application_role: args.application.clone(),
        publication: args.publication.clone(),
        mode: if args.mode == ModeFlag::Poll { Mode::Poll } else { Mode::Log },
        server_major: args.server_version,
    };
    preset_sql(find(&args.name)?, &options).map_err(|error| Refusal::refused(error.message, error.hint))
}

fn find(name: &str) -> Result<&'static Preset, Refusal> {
    Preset::find(name).map_err(|error| Refusal::usage(error.message, error.hint))
}

fn is_table(text: &str) -> bool {
    let is_whole = text.split_once('.').is_some_and(|(schema, name)| !schema.is_empty() && !name.is_empty());
    is_whole && !text.contains(['*', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_listed_and_shown() {
        let listed = list(&Flags::default());
        assert_eq!(listed.lines().count(), PRESETS.len());
        assert!(
            listed.contains("debezium-quarkus         A    log\n")
                && listed.contains("relay                    own  log, poll\n")
        );
        for preset in PRESETS {
            assert!(show(&Flags::default(), preset.name).unwrap().contains(&format!("preset = \"{}\"", preset.name)));
        }
        assert_eq!(show(&Flags::default(), "axon").unwrap_err().code, 64);
        assert!(show(&Flags::default(), "axon").unwrap_err().text().contains("docs/presets.md"));
    }
}

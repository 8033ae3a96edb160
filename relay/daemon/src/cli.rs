//! Turns the command line into one command and the flags that every command takes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use relay_core::Lsn;

use crate::settings::{Inputs, parse_duration};

/// Exit code for a command line that relay does not understand (sysexits' EX_USAGE).
pub(crate) const EXIT_USAGE: u8 = 64;

/// Publishes outbox rows and row changes of a PostgreSQL database to Kafka.
#[derive(Clone, Debug, Parser)]
#[command(name = "relay", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) flags: Flags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Flags {
    /// Configuration file; repeatable, a later one wins [default: ./relay.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// Sets one key over files and environment; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Less output; repeatable
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose")]
    pub(crate) quiet: u8,
    /// More output; repeatable
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Shape of the log, over `log.format`
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormatFlag>,
    /// When to colour; `NO_COLOR` is honoured
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: Color,
    /// Shape of what a command prints
    #[arg(long, global = true, default_value = "text", value_name = "SHAPE")]
    pub(crate) output: Output,
    /// Short for `--output json`
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormatFlag {
    Text,
    Json,
    Logfmt,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// Shape of what a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Text,
    Json,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the pipeline
    Run(RunArgs),
    /// Check configuration files without a connection
    #[command(visible_aliases = ["validate", "lint"])]
    Check(CheckArgs),
    /// Write a commented configuration and print the SQL for table, publication and role
    Init(InitArgs),
    /// Check database, brokers and rights
    Doctor(DoctorArgs),
    /// List the outbox layouts that relay knows, or print one
    Preset(PresetArgs),
    /// Remove published rows from outbox tables
    Outbox(OutboxArgs),
    /// Take a snapshot of captured tables while the pipeline runs, see how far it is, or call it off
    Snapshot(SnapshotArgs),
    /// Look at the replication slot, or drop it
    Slot(SlotArgs),
    /// Look at the checkpoint, or move it
    Checkpoint(CheckpointArgs),
    /// Try relay with generated traffic
    Demo(DemoArgs),
    /// Print version, commit and features
    Version(VersionArgs),
}

/// `relay run`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// End with 69 when a dependency was not reached within this time [default: wait for ever]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) start_limit: Option<Duration>,
    /// Go on after the gap that was reported at this LSN; good for one start
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub(crate) accept_gap: Option<Lsn>,
}

/// `relay check`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CheckArgs {
    /// Files, each a pipeline of its own; globs, and Markdown files with TOML blocks, too [default: the files of -c together]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<String>,
    /// Print the configuration with every default, secrets masked
    #[arg(long)]
    pub(crate) print_effective: bool,
    /// Print each value and who set it
    #[arg(long, conflicts_with = "print_effective")]
    pub(crate) show_origins: bool,
    /// End with 4 when there are warnings
    #[arg(long)]
    pub(crate) deny_warnings: bool,
}

/// `relay init`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct InitArgs {
    /// Where to write the configuration; an existing file is refused [default: ./relay.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Run the SQL over an administrator's connection; its password may come from PGPASSWORD
    #[arg(long, value_name = "URL")]
    pub(crate) apply: Option<String>,
    /// Look at a database for tables that fit a preset; reads only, and writes a configuration only with -o
    #[arg(long, value_name = "URL", conflicts_with_all = ["apply", "preset", "application", "server_version"])]
    pub(crate) detect: Option<String>,
    /// With --detect: do not look at any row
    #[arg(long, requires = "detect")]
    pub(crate) no_sample: bool,
    /// Show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Name of the pipeline
    #[arg(long, value_name = "NAME", default_value = "orders")]
    pub(crate) name: String,
    #[arg(long, value_name = "PRESET", help = preset_help())]
    pub(crate) preset: Option<String>,
    /// The outbox table [default: the preset's; with --detect every table]
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub(crate) table: Option<String>,
    /// Plain tables to capture, globs allowed; an outbox is written beside them only if --preset or --table is given
    #[arg(long, value_name = "SCHEMA.TABLE,…", value_delimiter = ',', conflicts_with = "detect")]
    pub(crate) capture: Vec<String>,
    /// The role that relay logs in as
    #[arg(long, value_name = "ROLE", default_value = "relay")]
    pub(crate) role: String,
    /// The application's role: with a preset for messages, the only one that may write them
    #[arg(long, value_name = "ROLE")]
    pub(crate) application: Option<String>,
    /// Major version of the server that the SQL is for [default: any; with --apply the server's own]
    #[arg(long, value_name = "MAJOR", value_parser = clap::value_parser!(u32).range(14..))]
    pub(crate) server_version: Option<u32>,
}

/// `relay doctor`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DoctorArgs {
    /// End with 4 when there are only warnings
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print only these checks
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
}

/// `relay preset`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PresetArgs {
    #[command(subcommand)]
    pub(crate) action: PresetAction,
}

/// What to print of the presets.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PresetAction {
    /// Print name, tier and modes of each
    List,
    /// Print one as the [[outbox]] that it stands for
    Show {
        /// Name of the preset
        name: String,
    },
    /// Print the SQL that it needs: table, grants, and publication and slot, or index and columns for polling
    Sql(PresetSqlArgs),
}

/// `relay preset sql`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PresetSqlArgs {
    /// Name of the preset
    pub(crate) name: String,
    /// The outbox table [default: the preset's]
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub(crate) table: Option<String>,
    /// How relay is to read
    #[arg(long, value_name = "MODE", default_value = "log")]
    pub(crate) mode: ModeFlag,
    /// The role that relay logs in as
    #[arg(long, value_name = "ROLE", default_value = "relay")]
    pub(crate) role: String,
    /// The application's role, the only one that may write messages
    #[arg(long, value_name = "ROLE", default_value = "app")]
    pub(crate) application: String,
    /// Name of publication and slot
    #[arg(long, value_name = "NAME", default_value = "relay_orders")]
    pub(crate) publication: String,
    /// Major version of the server that the SQL is for
    #[arg(long, value_name = "MAJOR", default_value_t = 17, value_parser = clap::value_parser!(u32).range(14..))]
    pub(crate) server_version: u32,
}

/// How relay reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeFlag {
    #[default]
    Log,
    Poll,
}

/// `relay outbox`.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutboxArgs {
    #[command(subcommand)]
    pub(crate) action: OutboxAction,
}

/// What to do with outbox tables.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum OutboxAction {
    /// Delete old published rows, or drop old partitions; never what the checkpoint does not prove published
    Prune(PruneArgs),
}

/// `relay outbox prune`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PruneArgs {
    /// One table [default: every one of an [[outbox]]]
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub(crate) table: Option<String>,
    /// How old a row must be [default: `retention` of the [[outbox]]]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) older_than: Option<Duration>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// `relay snapshot`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) action: SnapshotAction,
}

/// What to do with snapshots.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SnapshotAction {
    /// Publish the rows of these tables again, beside the stream
    Start(SnapshotStartArgs),
    /// Print how far the snapshot in work is
    Status,
    /// Call every snapshot off
    Stop,
}

/// `relay snapshot start`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SnapshotStartArgs {
    /// Captured tables, as schema.table
    #[arg(value_name = "SCHEMA.TABLE", required = true)]
    pub(crate) tables: Vec<String>,
    /// SQL condition that a row must meet
    #[arg(long = "where", value_name = "SQL")]
    pub(crate) filter: Option<String>,
}

/// `relay slot`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SlotArgs {
    #[command(subcommand)]
    pub(crate) action: SlotAction,
}

/// What to do with the slot.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SlotAction {
    /// Print how it stands
    Show,
    /// Drop it, which frees the WAL that it holds; the pipeline must not be reading the log
    Drop(ChangeArgs),
}

/// `relay checkpoint`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckpointArgs {
    #[command(subcommand)]
    pub(crate) action: CheckpointAction,
}

/// What to do with the checkpoint.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CheckpointAction {
    /// Print the record as JSON
    Show,
    /// Store the slot's position where no record exists; the pipeline must be stopped
    Init(ChangeArgs),
}

/// Flags of every command that changes something.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct ChangeArgs {
    /// Show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `relay demo`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DemoArgs {
    /// End by itself after this time, with a summary
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) run_time: Option<Duration>,
    /// Use this server in place of a throw-away one
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// Use these brokers in place of a mock cluster
    #[arg(long, value_name = "LIST")]
    pub(crate) brokers: Option<String>,
    /// Events a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Folders with server programs, in place of PATH and the usual places; for tests
    #[arg(long, value_name = "FOLDERS", env = "RELAY_DEMO_SEARCH", hide = true)]
    pub(crate) search: Option<String>,
}

/// `relay version`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct VersionArgs {}

// === impl Cli ===

impl Cli {
    /// Reads the process's command line. What cannot be read is printed, and the exit code comes back: 64, or 0 for help.
    pub(crate) fn from_process() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            // A closed pipe is no reason to fail a second time.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(EXIT_USAGE),
            }
        })
    }
}

// === impl Flags ===

impl Flags {
    /// Where the configuration comes from.
    pub(crate) fn inputs(&self) -> Inputs {
        Inputs::from_process(&self.config, &self.set)
    }

    /// Whether to print JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.output == Output::Json
    }

    /// Whether to colour what goes to a stream.
    pub(crate) fn is_coloured(&self, is_terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// Names every preset, so that the help cannot fall behind.
fn preset_help() -> String {
    let names: Vec<&str> = relay_encode::PRESETS.iter().map(|preset| preset.name).collect();
    format!("Layout of the outbox: {} [default: relay]", names.join(", "))
}

fn parse_lsn(text: &str) -> Result<Lsn, String> {
    text.parse().map_err(|_| "expected an LSN such as `0/16E9058`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let help = Cli::try_parse_from(["relay", "init", "--help"]).unwrap_err().to_string();
        assert!(relay_encode::PRESETS.iter().all(|preset| help.contains(preset.name)), "{help}");
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        let cli =
            Cli::try_parse_from(["relay", "-c", "a.toml", "run", "-c", "b.toml", "--set", "a=b", "--start-limit", "60s", "-vv"])
                .unwrap();
        assert_eq!((cli.flags.set.len(), cli.flags.verbose), (1, 2));
        let Command::Run(run) = cli.command else { panic!("run") };
        assert_eq!(run.start_limit, Some(Duration::from_secs(60)));
        let cli = Cli::try_parse_from(["relay", "check", "-c", "a.toml", "-c", "b.toml"]).unwrap();
        assert_eq!(cli.flags.config, [PathBuf::from("a.toml"), PathBuf::from("b.toml")]);
        assert!(matches!(Cli::try_parse_from(["relay", "lint", "x.toml"]).unwrap().command, Command::Check(_)));
        assert!(Cli::try_parse_from(["relay", "run", "--start-limit", "60"]).is_err());
        assert!(Cli::try_parse_from(["relay", "run", "--accept-gap", "x"]).is_err());
        assert!(Cli::try_parse_from(["relay"]).is_err());
    }

    #[test]
    fn colour_follows_flag_then_stream() {
        let flags = |color| Flags { color, ..Flags::default() };
        assert!(flags(Color::Always).is_coloured(false));
        assert!(!flags(Color::Never).is_coloured(true));
        assert!(!flags(Color::Auto).is_coloured(false));
    }
}

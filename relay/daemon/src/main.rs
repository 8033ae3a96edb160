//! The binary: one command, one exit code.

mod admin;
mod cli;
mod clock;
mod command;
mod log;
mod metrics;
mod monitor;
mod parts;
mod progress;
mod retention;
mod settings;
mod status;
mod stream;
mod supervise;

use cli::{Cli, Command};
use std::process::ExitCode;

/// librdkafka allocates each message on one thread and frees it on another, for which the C library's allocator takes a quarter of relay's
/// CPU; a test counts allocations with one of its own.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::from_process() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let flags = &cli.flags;
    let code = match &cli.command {
        Command::Run(args) => command::run::run(flags, args),
        Command::Check(args) => command::check::check(flags, args),
        Command::Init(args) => command::init::init(flags, args),
        Command::Doctor(args) => command::doctor::doctor(flags, args),
        Command::Preset(args) => command::preset::preset(flags, args),
        Command::Outbox(args) => command::outbox::outbox(flags, args),
        Command::Snapshot(args) => command::snapshot::snapshot(flags, args),
        Command::Slot(args) => command::slot::slot(flags, args),
        Command::Checkpoint(args) => command::checkpoint::checkpoint(flags, args),
        Command::Demo(args) => command::demo::demo(flags, args),
        Command::Version(_) => command::version::version(flags),
    };
    ExitCode::from(code)
}

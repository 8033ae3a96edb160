//! `relay run`: the daemon.

use crate::cli::{Flags, RunArgs};
use crate::log;
use crate::settings::{Loaded, load};
use crate::supervise::{self, RunOptions};
use std::io::IsTerminal;

/// Exit code for a configuration that relay does not start with.
pub(crate) const EXIT_CONFIG: u8 = 78;

/// Runs the pipeline. Returns the exit code.
pub(crate) fn run(flags: &Flags, args: &RunArgs) -> u8 {
    let loaded = match load_or_report(flags) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Err(error) = log::start(flags, &loaded.settings) {
        eprintln!("error: {error}");
        return EXIT_CONFIG;
    }
    for finding in &loaded.report.findings {
        tracing::warn!(
            event = "config.warning",
            error.code = finding.kind.directive().code,
            hint = finding.hint,
            "{}",
            finding.message
        );
    }
    supervise::run(&loaded, &RunOptions { start_limit: args.start_limit, accept_gap: args.accept_gap, stop: None })
}

/// The configuration, or all that is wrong with it on stderr.
pub(crate) fn load_or_report(flags: &Flags) -> Result<Loaded, u8> {
    load(&flags.inputs()).map_err(|report| {
        eprint!("{}", report.text(flags.is_coloured(std::io::stderr().is_terminal())));
        EXIT_CONFIG
    })
}

//! Turns one run on one machine into ratios: relay beside pg_recvlogical and beside a bare producer.
//!
//! `cargo bench -p relay-tests` runs everything, `cargo bench -p relay-tests -- drain latency` some of it. Figures of
//! two runs must not be compared, only the ratios within one; a missed bar is printed and never ends in an error.

mod backlog;
mod copy;
mod cpu;
mod drain;
mod idle;
mod latency;
mod machine;
mod pace;
mod poll;
mod producer;
mod records;
mod recvlogical;
mod relay;
mod report;
mod run;
mod servers;
mod settings;
mod snapshot;
mod walsender;
mod watcher;
mod watermarks;
mod wide;

use std::process::ExitCode;

use crate::backlog::{Backlog, Shape};
use crate::drain::{Comparison, compare};
use crate::relay::Wire;
use crate::report::Report;
use crate::run::Contender;
use crate::servers::Servers;
use crate::settings::{Scenario, Settings};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == producer::CHILD) {
        return producer::child(&args[1..]);
    }
    if args.iter().all(|arg| arg.starts_with("--") && arg != "--bench") {
        // `cargo test --all-targets` comes here too, and wants no measurement of minutes.
        println!("nothing measured: run `cargo bench -p relay-tests`, or name scenarios");
        return ExitCode::SUCCESS;
    }
    let settings = match Settings::read(&args) {
        Ok(settings) => settings,
        Err(e) => {
            eprintln!("error: {e}");
            return ExitCode::from(64);
        }
    };
    match measure(&settings) {
        Ok(report) => {
            println!("\n{report}");
            if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// A scenario that fails is told in the report, and the others go on.
fn measure(settings: &Settings) -> Result<Report, String> {
    let load_average = machine::load_average();
    let servers = Servers::start(settings)?;
    let mut report = Report::new(machine::describe(settings, &servers, &load_average));
    if settings.wants_any(&[Scenario::Drain, Scenario::Exactly, Scenario::Unix, Scenario::Stdout]) {
        let backlog = Backlog::write(&servers.db, &Shape::batch(settings.rows));
        for scenario in [Scenario::Drain, Scenario::Exactly, Scenario::Unix, Scenario::Stdout] {
            drain_into(&mut report, settings, &servers, &backlog, scenario);
        }
        backlog.remove(&servers.db);
    }
    for (scenario, shape) in [(Scenario::Single, Shape::single(settings.rows)), (Scenario::Topics, Shape::topics(settings.rows))]
    {
        if settings.wants(scenario) {
            let backlog = Backlog::write(&servers.db, &shape);
            drain_into(&mut report, settings, &servers, &backlog, scenario);
            backlog.remove(&servers.db);
        }
    }
    if settings.wants_any(&[Scenario::Capture, Scenario::Schemas]) {
        let mut backlog = Backlog::write(&servers.db, &Shape::captured(settings.rows));
        drain_into(&mut report, settings, &servers, &backlog, Scenario::Capture);
        backlog.route.insert_str(0, "format.schemas = true\n");
        drain_into(&mut report, settings, &servers, &backlog, Scenario::Schemas);
        backlog.remove(&servers.db);
    }
    if settings.wants(Scenario::Snapshot) {
        report.snapshotted(snapshot::measure(settings, &servers));
    }
    if settings.wants(Scenario::Wide) {
        report.wide(wide::measure(settings, &servers));
    }
    if settings.wants(Scenario::Latency) {
        report.latency(latency::measure(settings, &servers));
    }
    if settings.wants(Scenario::Idle) {
        report.idle(idle::measure(&servers));
    }
    if settings.wants(Scenario::Poll) {
        report.polled(poll::measure(settings, &servers));
    }
    Ok(report)
}

fn drain_into(report: &mut Report, settings: &Settings, servers: &Servers, backlog: &Backlog, scenario: Scenario) {
    if !settings.wants(scenario) {
        return;
    }
    println!("\n# {scenario}");
    let contenders: &[Contender] = match scenario {
        Scenario::Drain | Scenario::Capture | Scenario::Schemas => {
            &[Contender::Recvlogical, Contender::Relay, Contender::Producer]
        }
        Scenario::Exactly => &[Contender::Relay, Contender::Exactly],
        _ => &[Contender::Recvlogical, Contender::Relay],
    };
    let wire = if scenario == Scenario::Unix { Wire::Unix } else { Wire::Tcp };
    let is_stdout = scenario == Scenario::Stdout;
    let compared = compare(servers, backlog, &Comparison { scenario, contenders, wire, is_stdout, rounds: settings.rounds });
    report.drain(compared);
}

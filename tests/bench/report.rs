//! Turns the figures of a run into Markdown tables, with the bar beside each figure that has one.

use std::fmt;

use crate::drain::Compared;
use crate::latency::Measured;
use crate::poll::Polled;
use crate::run::{Contender, Run};
use crate::settings::Scenario;
use crate::snapshot::Snapshotted;

/// All that a run has found.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Vec<String>,
    compared: Vec<Compared>,
    lines: Vec<Line>,
    failures: Vec<String>,
}

/// A line of the summary.
#[derive(Debug)]
struct Line {
    what: String,
    relay: String,
    reference: String,
    value: String,
    bar: Option<Bar>,
}

/// What a figure is held against.
#[derive(Debug)]
struct Bar {
    text: String,
    is_met: bool,
}

/// Relay's default `delivery.in_flight` and the fixed part of its memory.
const MEMORY_MIB: f64 = 64.0 + 64.0;

// === impl Report ===

impl Report {
    /// Nothing found yet on a machine.
    pub(crate) fn new(machine: Vec<String>) -> Report {
        Report { machine, compared: Vec::new(), lines: Vec::new(), failures: Vec::new() }
    }

    /// Whether everything asked for was measured.
    pub(crate) fn is_whole(&self) -> bool {
        self.failures.is_empty()
    }

    /// Takes a drain in.
    pub(crate) fn drain(&mut self, compared: Compared) {
        let scenario = compared.scenario;
        let sum = |who| Run::sum(&compared.runs, who);
        let (relay, reader, bare) = (sum(Contender::Relay), sum(Contender::Recvlogical), sum(Contender::Producer));
        if let (Some(relay), Some(reader)) = (&relay, &reader) {
            self.lines.extend(against_reader(scenario, relay, reader, &compared.runs));
        }
        if let (Some(relay), Some(once)) = (&relay, sum(Contender::Exactly)) {
            self.lines.extend(against_at_least_once(scenario, &once, relay));
        }
        if let (Some(relay), Some(bare)) = (&relay, &bare) {
            self.lines.extend(against_producer(scenario, relay, bare));
        }
        if let Some(bytes) = relay.as_ref().and_then(|run| run.peak_rss_bytes) {
            let mib = bytes as f64 / 1_048_576.0;
            let has_bar = matches!(scenario, Scenario::Drain | Scenario::Capture | Scenario::Schemas);
            // Three times a row of a few hundred bytes is below the last digit.
            let bar = has_bar.then(|| Bar::at_most(mib, MEMORY_MIB, &format!("<= {MEMORY_MIB:.0} MiB + 3 rows")));
            self.push(format!("{scenario}: peak RSS"), format!("{mib:.1} MiB"), "–".into(), "–".into(), bar);
        }
        self.failures.extend(compared.failures.iter().cloned());
        self.compared.push(compared);
    }

    /// Takes latencies in.
    pub(crate) fn latency(&mut self, measured: Result<Measured, String>) {
        let measured = match measured {
            Ok(measured) => measured,
            Err(e) => return self.failures.push(format!("latency: {e}")),
        };
        for (name, share, bar_ms) in [("p50", 0.5, Some(1.0)), ("p90", 0.9, None), ("p99", 0.99, Some(3.0)), ("max", 1.0, None)] {
            let (relay, bare) = (measured.relay.percentile_ms(share), measured.bare.percentile_ms(share));
            let bar = bar_ms.map(|ms| Bar::at_most(relay - bare, ms, &format!("<= +{ms:.0} ms")));
            let what = format!("latency at {:.0} events/s: {name}", measured.rate);
            self.push(
                what,
                format!("{relay:.2} ms"),
                format!("{bare:.2} ms (bare producer)"),
                format!("{:+.2} ms", relay - bare),
                bar,
            );
        }
        let cpu = format!("{:.1} us/event", measured.relay_cpu_us);
        self.push("latency: relay CPU".into(), cpu, "–".into(), "–".into(), None);
    }

    /// Takes the idle share in.
    pub(crate) fn idle(&mut self, percent: Result<f64, String>) {
        match percent {
            Ok(percent) => {
                let bar = Bar { text: "< 0.5 %".into(), is_met: percent < 0.5 };
                self.push("idle: CPU".into(), format!("{percent:.1} %"), "–".into(), "–".into(), Some(bar));
            }
            Err(e) => self.failures.push(format!("idle: {e}")),
        }
    }

    /// Takes the snapshot in.
    pub(crate) fn snapshotted(&mut self, found: Result<Vec<Snapshotted>, String>) {
        let found = match found {
            Ok(found) => found,
            Err(e) => return self.failures.push(format!("snapshot: {e}")),
        };
        for Snapshotted { connections, copy, relay, bare, cpu_us, broker_us, rss_bytes } in found {
            self.lines.push(Line::ratio(
                format!("snapshot: rate with {connections} connection(s)"),
                format!("{relay:.0} rows/s"),
                format!("{copy:.0} rows/s (COPY table TO STDOUT)"),
                relay / copy,
                Some(Bar::at_least(relay / copy, 0.6)),
            ));
            self.lines.push(Line::ratio(
                format!("snapshot: rate with {connections} connection(s)"),
                format!("{relay:.0} rows/s"),
                format!("{bare:.0} rows/s (bare producer)"),
                relay / bare,
                None,
            ));
            let mib = rss_bytes as f64 / 1_048_576.0;
            let bar = Bar::at_most(mib, MEMORY_MIB, &format!("<= {MEMORY_MIB:.0} MiB + 3 rows"));
            let what = format!("snapshot: CPU, peak RSS with {connections}");
            let cost = format!("{cpu_us:.2} us/row, {mib:.1} MiB");
            self.push(what, cost, format!("{broker_us:.2} us/row (broker)"), "–".into(), Some(bar));
        }
    }

    /// Takes the memory of large rows in.
    pub(crate) fn wide(&mut self, found: Result<Vec<(&'static str, u64, u64)>, String>) {
        match found {
            Ok(found) => {
                for (what, peak, largest_row) in found {
                    let (mib, row) = (peak as f64 / 1_048_576.0, largest_row as f64 / 1_048_576.0);
                    let bar = Bar::at_most(mib, MEMORY_MIB + 3.0 * row, &format!("<= {MEMORY_MIB:.0} MiB + 3 x {row:.1} MiB"));
                    self.push(format!("wide: peak RSS, {what}"), format!("{mib:.1} MiB"), "–".into(), "–".into(), Some(bar));
                }
            }
            Err(e) => self.failures.push(format!("wide: {e}")),
        }
    }

    /// Takes polling in.
    pub(crate) fn polled(&mut self, polled: Result<Polled, String>) {
        let polled = match polled {
            Ok(polled) => polled,
            Err(e) => return self.failures.push(format!("poll: {e}")),
        };
        // Rates of equal work: the mean is that of the times.
        let mean = |rate: fn(&(f64, f64)) -> f64| {
            polled.rounds.len() as f64 / polled.rounds.iter().map(|round| 1.0 / rate(round)).sum::<f64>()
        };
        let (copy, relay) = (mean(|round| round.0), mean(|round| round.1));
        let rounds: Vec<String> = polled.rounds.iter().map(|(copy, relay)| format!("{:.2}", relay / copy)).collect();
        self.lines.push(Line::ratio(
            format!("poll: rate, rows kept (by round {})", rounds.join(", ")),
            format!("{relay:.0} rows/s"),
            format!("{copy:.0} rows/s (COPY … ORDER BY seq)"),
            relay / copy,
            Some(Bar::at_least(relay / copy, 0.7)),
        ));
        if let Some((cpu, rss)) = polled.cost {
            self.push("poll: CPU, peak RSS".into(), format!("{cpu:.2} us/row, {rss:.1} MiB"), "–".into(), "–".into(), None);
        }
        for (name, rate) in &polled.marking {
            let ratio = format!("{:.2} x", rate / copy);
            self.push(format!("poll: {name}"), format!("{rate:.0} rows/s"), format!("{copy:.0} rows/s (COPY)"), ratio, None);
        }
        for (name, p50, p99) in &polled.latency {
            let figures = format!("p50 {p50:.2} ms, p99 {p99:.2} ms");
            self.push(format!("poll: latency at 200 events/s {name}"), figures, "–".into(), "–".into(), None);
        }
        if let Some((percent, statements)) = polled.idle {
            let bar = Bar { text: "< 0.5 %".into(), is_met: percent < 0.5 };
            self.push("poll: idle CPU".into(), format!("{percent:.2} %"), "–".into(), "–".into(), Some(bar));
            let bar = Bar { text: "<= 5 a second at 200 ms, and the monitor's".into(), is_met: statements <= 5.6 };
            self.push("poll: idle statements a second".into(), format!("{statements:.2}"), "–".into(), "–".into(), Some(bar));
        }
        if let Some((before, after)) = polled.beside_open {
            let bar = Bar::at_most(after - before, 1.0, "<= +1 ms");
            self.push(
                "poll: rows to Kafka beside an open transaction, p50".into(),
                format!("{after:.2} ms after all rows"),
                format!("{before:.2} ms before them"),
                format!("{:+.2} ms", after - before),
                Some(bar),
            );
        }
    }

    fn push(&mut self, what: String, relay: String, reference: String, value: String, bar: Option<Bar>) {
        self.lines.push(Line { what, relay, reference, value, bar });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# relay bench\n")?;
        self.machine.iter().try_for_each(|line| writeln!(f, "- {line}"))?;
        for Compared { scenario, runs, .. } in &self.compared {
            writeln!(f, "\n## {scenario}: rounds in the order they ran; CPU in us a row\n")?;
            writeln!(f, "| contender | rows/s | with start-up | CPU | walsender | broker | peak RSS MiB |")?;
            writeln!(f, "|---|---|---|---|---|---|---|")?;
            runs.iter().try_for_each(|run| writeln!(f, "| {run} |"))?;
        }
        writeln!(f, "\n## Summary: all rounds together\n")?;
        writeln!(f, "| what | relay | reference | ratio or difference | bar | verdict |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        for failure in &self.failures {
            writeln!(f, "\n**Not measured**: {failure}")?;
        }
        Ok(())
    }
}

// === impl Line ===

impl Line {
    fn ratio(what: String, relay: String, reference: String, ratio: f64, bar: Option<Bar>) -> Line {
        Line { what, relay, reference, value: format!("{ratio:.2} x"), bar }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bar, verdict) = match &self.bar {
            Some(bar) => (bar.text.as_str(), if bar.is_met { "pass" } else { "**miss**" }),
            None => ("–", "–"),
        };
        write!(f, "| {} | {} | {} | {} | {bar} | {verdict} |", self.what, self.relay, self.reference, self.value)
    }
}

// === impl Bar ===

impl Bar {
    fn at_least(value: f64, bar: f64) -> Bar {
        Bar { text: format!(">= {bar} x"), is_met: value >= bar }
    }

    fn at_most(value: f64, bar: f64, text: &str) -> Bar {
        Bar { text: text.to_owned(), is_met: value <= bar }
    }
}

fn against_reader(scenario: Scenario, relay: &Run, reader: &Run, runs: &[Run]) -> Vec<Line> {
    let wanted = match scenario {
        Scenario::Drain => Some(1.0),
        Scenario::Capture => Some(0.95),
        Scenario::Single => Some(0.9),
        _ => None,
    };
    let rate = |what: &str, ours: f64, theirs: f64, bar: Option<f64>| {
        let (relay, reference) = (format!("{ours:.0} rows/s"), format!("{theirs:.0} rows/s (pg_recvlogical)"));
        let bar = bar.map(|bar| Bar::at_least(ours / theirs, bar));
        Line::ratio(format!("{scenario}: {what}"), relay, reference, ours / theirs, bar)
    };
    let rates = |who| runs.iter().filter(move |run| run.who == who).map(Run::flow_rate);
    let rounds = rates(Contender::Relay).zip(rates(Contender::Recvlogical)).map(|(ours, theirs)| format!("{:.2}", ours / theirs));
    let what = format!("rate (by round {})", rounds.collect::<Vec<_>>().join(", "));
    let mut lines = vec![
        rate(&what, relay.flow_rate(), reader.flow_rate(), wanted),
        rate("rate with start-up", relay.whole_rate(), reader.whole_rate(), None),
        cpu(scenario, "CPU", (relay, relay.cpu), (reader, reader.cpu), None),
    ];
    if let (Some(ours), Some(theirs)) = (relay.walsender, reader.walsender) {
        lines.push(cpu(scenario, "walsender CPU", (relay, ours), (reader, theirs), None));
    }
    lines
}

fn against_at_least_once(scenario: Scenario, once: &Run, relay: &Run) -> Vec<Line> {
    let ratio = once.flow_rate() / relay.flow_rate();
    let (ours, theirs) = (format!("{:.0} rows/s", once.flow_rate()), format!("{:.0} rows/s (at-least-once)", relay.flow_rate()));
    let mut lines = vec![
        Line::ratio(format!("{scenario}: rate"), ours, theirs, ratio, Some(Bar::at_least(ratio, 0.9))),
        cpu(scenario, "CPU", (once, once.cpu), (relay, relay.cpu), None),
    ];
    if let (Some(ours), Some(theirs)) = (once.broker, relay.broker) {
        lines.push(cpu(scenario, "broker CPU", (once, ours), (relay, theirs), None));
    }
    lines
}

fn against_producer(scenario: Scenario, relay: &Run, bare: &Run) -> Vec<Line> {
    let wanted = match scenario {
        Scenario::Capture => Some(2.2),
        Scenario::Schemas => None,
        _ => Some(1.6),
    };
    let mut lines = vec![cpu(scenario, "CPU", (relay, relay.cpu), (bare, bare.cpu), wanted)];
    if let (Some(ours), Some(theirs)) = (relay.broker, bare.broker) {
        lines.push(cpu(scenario, "broker CPU", (relay, ours), (bare, theirs), None));
    }
    let ratio = relay.flow_rate() / bare.flow_rate();
    let (ours, theirs) = (format!("{:.0} rows/s", relay.flow_rate()), format!("{:.0} rows/s ({})", bare.flow_rate(), bare.who));
    lines.push(Line::ratio(format!("{scenario}: rate"), ours, theirs, ratio, None));
    lines
}

fn cpu(
    scenario: Scenario,
    what: &str,
    (relay, ours): (&Run, std::time::Duration),
    (reference, theirs): (&Run, std::time::Duration),
    bar: Option<f64>,
) -> Line {
    let (ours, theirs) = (relay.us_per_row(ours), reference.us_per_row(theirs));
    let bar = bar.map(|bar| Bar::at_most(ours / theirs, bar, &format!("<= {bar} x")));
    let reference = format!("{theirs:.2} us/row ({})", reference.who);
    Line::ratio(format!("{scenario}: {what}"), format!("{ours:.2} us/row"), reference, ours / theirs, bar)
}

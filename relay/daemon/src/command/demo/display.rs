//! Turns arrivals into lines: a throttled live view on a terminal, every event elsewhere, JSON on request.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::time::{Duration, Instant};

use super::words::{CLEAR_LINE, Words};
use crate::cli::Flags;
use crate::clock;
use crate::status::unix_us;

/// What is shown of the events, and how.
#[derive(Debug)]
pub(super) struct Display {
    out: BufWriter<Stdout>,
    words: Words,
    is_json: bool,
    is_coloured: bool,
    /// On a terminal: when the next event may be shown.
    next_line: Option<Instant>,
    /// The status line as it stands on the terminal.
    status: String,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) order: &'a str,
    pub(super) kind: &'a str,
    pub(super) customer: &'a str,
    pub(super) items: usize,
    pub(super) total: f64,
    pub(super) currency: &'a str,
    pub(super) latency_us: u64,
}

/// The last second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    /// Events a second.
    pub(super) rate: f64,
    /// Different events so far.
    pub(super) total: u64,
    pub(super) p50_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
    /// Committed rows that have not arrived.
    pub(super) behind: u64,
}

/// On a terminal, ten lines a second can be read; more cannot.
const LINE_EVERY: Duration = Duration::from_millis(100);

// === impl Display ===

impl Display {
    pub(super) fn new(flags: &Flags, words: Words) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self {
            out: BufWriter::new(io::stdout()),
            words,
            is_json: flags.is_json(),
            is_coloured: flags.is_coloured(is_terminal),
            next_line: (is_terminal && !flags.is_json()).then(Instant::now),
            status: String::new(),
        }
    }

    /// Shows an event, unless too many were shown just now.
    pub(super) fn event(&mut self, line: &Line<'_>) -> io::Result<()> {
        if let Some(next) = &mut self.next_line {
            let now = Instant::now();
            if *next > now {
                return Ok(());
            }
            *next = now + LINE_EVERY;
        }
        if self.is_json {
            return writeln!(self.out, "{}", line.json());
        }
        if self.status.is_empty() {
            return writeln!(self.out, "{}", line.text(self.is_coloured));
        }
        // The line takes the place of the status, which comes again below it.
        self.on_terminal(CLEAR_LINE);
        writeln!(self.out, "{}", line.text(self.is_coloured))?;
        self.out.flush()?;
        self.on_terminal(&self.status);
        Ok(())
    }

    /// Shows how things go.
    pub(super) fn second(&mut self, second: &Second) {
        let is_before_the_first = second.total == 0 && second.behind == 0;
        if self.words.is_quiet() || self.is_json || is_before_the_first {
            return;
        }
        let text = second.text();
        if self.words.is_terminal() {
            // Room for the shortest of terminals: a line that wraps cannot be cleared.
            self.status = text.chars().take(78).collect();
            self.on_terminal(&format!("{CLEAR_LINE}{}", self.status));
        } else {
            self.words.say(&text);
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Leaves the terminal with an empty line to go on.
    pub(super) fn end(&mut self) {
        if !std::mem::take(&mut self.status).is_empty() {
            self.on_terminal(CLEAR_LINE);
        }
        let _ = self.out.flush();
    }

    fn on_terminal(&self, text: &str) {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

// === impl Line ===

impl Line<'_> {
    fn text(&self, is_coloured: bool) -> String {
        let now = clock::rfc3339(unix_us());
        let time = now.get(11..23).unwrap_or(&now);
        let colour = match self.kind {
            "OrderPlaced" => "\x1b[36m",
            "OrderPaid" => "\x1b[33m",
            _ => "\x1b[32m",
        };
        let (on, off) = if is_coloured { (colour, "\x1b[0m") } else { ("", "") };
        format!(
            "{time}  {topic}[{partition}]@{offset:<6} {order:<8} {on}{kind:<12}{off}  {customer:<17} {items} {noun:<5} \
             {total:>8.2} {currency}  {latency}",
            topic = self.topic,
            partition = self.partition,
            offset = self.offset,
            order = self.order,
            kind = self.kind,
            customer = self.customer,
            items = self.items,
            noun = if self.items == 1 { "item" } else { "items" },
            total = self.total,
            currency = self.currency,
            latency = milliseconds(Some(self.latency_us)),
        )
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "topic": self.topic, "partition": self.partition, "offset": self.offset, "key": self.order, "type": self.kind,
            "customer": self.customer, "total": self.total, "currency": self.currency, "latency_us": self.latency_us,
        })
    }
}

// === impl Second ===

impl Second {
    fn text(&self) -> String {
        let (p50, p99) = (milliseconds(self.p50_us), milliseconds(self.p99_us));
        format!("{:.0} events/s   total {}   p50 {p50}   p99 {p99}   behind {}", self.rate, self.total, self.behind)
    }
}

/// A latency for people.
pub(super) fn milliseconds(latency_us: Option<u64>) -> String {
    match latency_us {
        None => "-".to_owned(),
        Some(us) if us < 100_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        Some(us) => format!("{:.0} ms", us as f64 / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_adds_nothing_to_the_words() {
        let line = Line {
            topic: "outbox.event.order",
            partition: 2,
            offset: 17,
            order: "o-1001",
            kind: "OrderPaid",
            customer: "Ada Lovelace",
            items: 1,
            total: 7.5,
            currency: "EUR",
            latency_us: 2_345,
        };
        let plain = line.text(false);
        let expected = "outbox.event.order[2]@17     o-1001   OrderPaid     Ada Lovelace      1 item      7.50 EUR  2.3 ms";
        assert_eq!(plain.get(14..), Some(expected));
        let bare = line.text(true).replace("\x1b[33m", "").replace("\x1b[0m", "");
        assert_eq!(bare.get(14..), Some(expected));
        let second = Second { rate: 199.7, total: 1_000, p50_us: Some(2_000), p99_us: None, behind: 3 };
        assert_eq!(second.text(), "200 events/s   total 1000   p50 2.0 ms   p99 -   behind 3");
    }
}

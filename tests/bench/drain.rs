//! Turns a backlog and some contenders into rounds of alternating order.

use crate::backlog::Backlog;
use crate::relay::Wire;
use crate::run::{Contender, Run};
use crate::servers::Servers;
use crate::settings::Scenario;
use crate::{producer, recvlogical, relay};

/// Who is to be compared, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison<'a> {
    /// The name in the report.
    pub(crate) scenario: Scenario,
    /// In the order of the first round.
    pub(crate) contenders: &'a [Contender],
    /// How they reach PostgreSQL.
    pub(crate) wire: Wire,
    /// relay writes to standard output instead of Kafka.
    pub(crate) is_stdout: bool,
    /// How often.
    pub(crate) rounds: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Compared {
    /// The name in the report.
    pub(crate) scenario: Scenario,
    /// Every round of every contender.
    pub(crate) runs: Vec<Run>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

/// The topic of the bare producer.
const BARE: &str = "bare";

/// Runs all rounds; a contender that fails once is left out of the later ones.
pub(crate) fn compare(servers: &Servers, backlog: &Backlog, comparison: &Comparison<'_>) -> Compared {
    let Comparison { scenario, rounds, .. } = *comparison;
    let mut compared = Compared { scenario, runs: Vec::new(), failures: Vec::new() };
    let mut contenders = comparison.contenders.to_vec();
    for round in 0..rounds {
        let order: Vec<Contender> = if round % 2 == 0 { contenders.clone() } else { contenders.iter().rev().copied().collect() };
        for who in order {
            match run(servers, backlog, comparison, who, round) {
                Ok(run) => {
                    println!("{scenario} {}: {run}", round + 1);
                    compared.runs.push(run);
                }
                Err(e) => {
                    println!("{scenario} {}: {who} FAILED: {e}", round + 1);
                    compared.failures.push(format!("{scenario}: {who}: {e}"));
                    contenders.retain(|other| *other != who);
                }
            }
        }
    }
    if !comparison.is_stdout && backlog.partitions > 1 {
        backlog.topics.iter().for_each(|topic| servers.fresh_topic(topic, backlog.partitions));
    }
    compared
}

fn run(servers: &Servers, backlog: &Backlog, comparison: &Comparison<'_>, who: Contender, round: u64) -> Result<Run, String> {
    let Comparison { scenario, wire, is_stdout, .. } = *comparison;
    let (url, name) = (wire.url(&servers.db), format!("{scenario}_{round}"));
    match who {
        Contender::Recvlogical => recvlogical::drain(servers, backlog, &url, &name),
        Contender::Relay | Contender::Exactly => {
            if !is_stdout {
                prepare_topics(servers, backlog)?;
            }
            let name = if who == Contender::Exactly { format!("{name}_once") } else { name };
            relay::drain(servers, backlog, &url, &name, who, is_stdout)
        }
        Contender::Producer => {
            servers.fresh_topic(BARE, backlog.partitions);
            // relay's records of this round, or of the round before where the order is turned round.
            producer::run(servers, backlog.topics.first().map(String::as_str), BARE, backlog.rows)
        }
    }
}

/// One topic is made anew for each run; a thousand are kept, and what they hold is subtracted.
fn prepare_topics(servers: &Servers, backlog: &Backlog) -> Result<(), String> {
    match backlog.topics.as_slice() {
        [topic] => servers.fresh_topic(topic, backlog.partitions),
        topics => servers.create_missing(topics)?,
    }
    Ok(())
}

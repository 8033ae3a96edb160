//! `relay demo`: turns nothing into a running pipeline with servers, traffic and a view of what arrives.

mod account;
mod consumer;
mod database;
mod desk;
mod display;
mod ending;
mod fetch;
mod latency;
mod ledger;
mod names;
mod pipeline;
mod programs;
mod server;
mod service;
mod shelter;
mod summary;
mod words;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relay_kafka::Tail;
use relay_kafka::mock::Mock;

use crate::cli::{DemoArgs, Flags};
use crate::command::refusal::Refusal;
use crate::{log, parts};
use consumer::Consumer;
use database::Database;
use display::Display;
use ending::Ending;
use ledger::Ledger;
use names::Names;
use pipeline::{Pipeline, Places};
use server::{Server, free_port};
use service::Service;
use summary::Summary;
use words::Words;

/// Why the demo ends before there is anything to sum up.
#[derive(Debug)]
enum Halt {
    /// Somebody asked for the end.
    Asked,
    /// It cannot go on.
    Refused(Refusal),
    /// The same, and the user has been told.
    Told(u8),
}

/// The broker: ours or the user's.
struct Broker {
    bootstrap: String,
    /// Lives as long as the demo.
    mock: Option<Mock>,
}

const EXIT_UNREACHED: u8 = 69;
const EXIT_BUSY: u8 = 75;
/// How often something is looked at that takes a while.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the last events may take to arrive.
const ARRIVE_LIMIT: Duration = Duration::from_secs(20);
/// Partitions of the mock cluster's topic.
const PARTITIONS: u16 = 3;

/// Runs the command. Returns the exit code.
pub(crate) fn demo(flags: &Flags, args: &DemoArgs) -> u8 {
    match run(flags, args) {
        Ok(code) | Err(Halt::Told(code)) => code,
        Err(Halt::Refused(refusal)) => refusal.report(),
        Err(Halt::Asked) => {
            Words::new(flags.quiet > 0).say("ended before anything was written; nothing is left behind");
            0
        }
    }
}

/// The story, from nothing to nothing. Each part takes itself down when its value goes, the last one first.
fn run(flags: &Flags, args: &DemoArgs) -> Result<u8, Halt> {
    if !flags.config.is_empty() {
        return Err(Refusal::usage("`relay demo` reads no configuration file", "use `relay run -c FILE`").into());
    }
    let words = Words::new(flags.quiet > 0);
    let ending = Ending::watch()?;
    let server = match &args.postgres {
        Some(_) => None,
        None => Some(Server::start(args.search.as_deref(), &ending, words)?),
    };
    let run = format!("{:08x}", RandomState::new().build_hasher().finish() as u32);
    let names = Names::new(run, server.is_some(), args.brokers.is_none());
    let broker = Broker::start(args.brokers.as_deref(), &names)?;
    let url = args.postgres.as_deref().or(server.as_ref().map(|server| server.url.as_str())).unwrap_or_default();
    let admin_port = free_port().map_err(|error| Refusal::refused(format!("find a free port: {error}"), ""))?;
    let has_password_in_environment = server.is_none()
        && std::env::var_os("PGPASSWORD").is_some_and(|password| !password.is_empty())
        && relay_pgwire::Config::parse(url).is_ok_and(|config| !config.has_password());
    let is_mock = broker.mock.is_some();
    let places = Places { url, has_password_in_environment, brokers: &broker.bootstrap, is_mock, admin_port };
    let loaded = pipeline::settings(flags, &names, &places)?;
    log::start(flags, &loaded.settings).map_err(|error| Refusal::config(error.to_string()))?;
    let source = parts::source(&loaded.settings).map_err(Refusal::config)?;
    let kafka = parts::kafka(&loaded.settings).map_err(Refusal::config)?;
    let tail = Tail::from_now(&kafka, &names.topic()).map_err(|error| Refusal::of(error.kind(), error.to_string()))?;
    ending.check()?;
    let mut database = Database::prepare(&source, &names, server.is_none(), words)?;
    introduce(words, &names, server.as_ref(), &database, &broker, admin_port);
    let ledger = Arc::new(Ledger::default());
    let display = Display::new(flags, words);
    let mut consumer = Consumer::start(tail, names.topic(), &names.run, &ledger, display, &ending)?;
    let mut pipeline = Pipeline::start(loaded)?;
    database.until_streaming(&pipeline, &ending)?;
    let began = Instant::now();
    let mut service = Service::start(&source, &names, &ledger, args.rate, words)?;
    while !ending.is_asked() && pipeline.is_running() && args.run_time.is_none_or(|limit| began.elapsed() < limit) {
        std::thread::sleep(PAUSE);
    }
    service.stop();
    let wrote_for = began.elapsed();
    let limit = Instant::now() + ARRIVE_LIMIT;
    while ledger.behind() > 0 && pipeline.is_running() && Instant::now() < limit {
        std::thread::sleep(PAUSE);
    }
    let code = pipeline.stop();
    let latencies = consumer.finish();
    let summary = Summary { balance: ledger.balance(), latencies, wrote_for, pipeline: code };
    if flags.is_json() {
        println!("{}", summary.json());
    } else {
        words.insist(&summary.text());
    }
    let is_clean = database.finish();
    drop(server);
    if is_clean {
        words.say(&farewell(&names, args));
    }
    Ok(summary.code())
}

/// Says what runs where, and how to look at it.
fn introduce(words: Words, names: &Names, server: Option<&Server>, database: &Database, broker: &Broker, admin_port: u16) {
    let postgres = match server {
        Some(server) => format!("PostgreSQL {} of our own\n             psql '{}'", server.version, server.url),
        None => {
            format!("{}, yours: schema, publication and slot {} are made now and dropped at the end", database.about, names::SLOT)
        }
    };
    let kafka = match &broker.mock {
        Some(_) => "a mock cluster in this process",
        None => "your cluster",
    };
    words.say(&format!(
        "\n  database   {postgres}\n             table {outbox}\n  \
           broker     {kafka}\n             kcat -b {brokers} -t {topic}\n  \
           relay      http://127.0.0.1:{admin_port}/status and /metrics\n",
        outbox = names.outbox(),
        brokers = broker.bootstrap,
        topic = names.topic(),
    ));
}

fn farewell(names: &Names, args: &DemoArgs) -> String {
    if args.brokers.is_none() {
        return "nothing is left behind".to_owned();
    }
    format!(
        "left behind in your Kafka: topics {}, {} and {}, as far as they were needed",
        names.topic(),
        names.checkpoint_topic,
        names.dlq_topic
    )
}

/// Another exit code than the one that goes with it.
fn with_code(mut refusal: Refusal, code: u8) -> Refusal {
    refusal.code = code;
    refusal
}

// === impl Broker ===

impl Broker {
    fn start(brokers: Option<&str>, names: &Names) -> Result<Self, Refusal> {
        if let Some(brokers) = brokers {
            return Ok(Self { bootstrap: brokers.to_owned(), mock: None });
        }
        let failed = |error: relay_kafka::Error| Refusal::refused(format!("start the mock cluster: {error}"), "");
        let mock = Mock::start(1).map_err(failed)?;
        // The mock makes no topic when asked by a client.
        for (topic, partitions) in
            [(names.topic(), PARTITIONS), (names.checkpoint_topic.clone(), 1), (names.dlq_topic.clone(), 1)]
        {
            mock.create_topic(&topic, partitions).map_err(failed)?;
        }
        Ok(Self { bootstrap: mock.bootstrap_servers().map_err(failed)?, mock: Some(mock) })
    }
}

// === impl Halt ===

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<relay_postgres::Error> for Halt {
    fn from(error: relay_postgres::Error) -> Self {
        Self::Refused(error.into())
    }
}

impl From<relay_pgwire::Error> for Halt {
    fn from(error: relay_pgwire::Error) -> Self {
        Self::Refused(error.into())
    }
}

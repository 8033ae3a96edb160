//! Turns a seed into transactions on an outbox table, and tells an oracle what became of each.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls, Statement};

use crate::oracle::{Event, Oracle, Outcome, Told};
use crate::outbox::Outbox;
use crate::seed::Seed;
use crate::wait::{secs, try_until};

/// What is written, and how. Each writer has keys of its own, so the order of each key is known.
#[derive(Clone, Debug)]
pub struct Plan {
    url: String,
    table: String,
    topic: Option<String>,
    writers: u64,
    keys: u64,
    rows: RangeInclusive<u64>,
    rollbacks: f64,
    savepoints: f64,
    events_per_second: Option<f64>,
    events: Option<u64>,
    padding: String,
    seed: u64,
}

/// Writers at work. They stop on drop.
#[derive(Debug)]
pub struct Load {
    oracle: Arc<Oracle>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    seed: u64,
    started: Instant,
}

/// How long a writer tries to reach a server that is down.
const DOWN_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    committed: AtomicU64,
    reconnects: AtomicU64,
}

// === impl Plan ===

impl Plan {
    /// The number of writer threads; 4 unless said.
    pub fn writers(mut self, n: u64) -> Self {
        self.writers = n;
        self
    }

    /// The number of keys of each writer; 10 unless said.
    pub fn keys(mut self, n: u64) -> Self {
        self.keys = n;
        self
    }

    /// Rows of a transaction; 1 to 5 unless said.
    pub fn rows(mut self, rows: RangeInclusive<u64>) -> Self {
        self.rows = rows;
        self
    }

    /// The share of transactions that end in ROLLBACK, and of those with a savepoint that is rolled back or released;
    /// 0.1 each unless said.
    pub fn rollbacks(mut self, transactions: f64, savepoints: f64) -> Self {
        (self.rollbacks, self.savepoints) = (transactions, savepoints);
        self
    }

    /// A limit on rows per second of all writers together.
    pub fn rate(mut self, events_per_second: f64) -> Self {
        self.events_per_second = Some(events_per_second);
        self
    }

    /// Stops by itself after about so many committed rows.
    pub fn events(mut self, n: u64) -> Self {
        self.events = Some(n);
        self
    }

    /// Bytes that make each payload longer.
    pub fn padding(mut self, bytes: usize) -> Self {
        self.padding = "x".repeat(bytes);
        self
    }

    /// The topic in the row; without it the row has aggregate type `load`, hence topic `outbox.event.load`.
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }

    /// The seed; a fresh one unless said.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Starts the writers.
    pub fn start(self) -> Load {
        println!("load on {}: seed {}, {} writers, rows {:?}", self.table, self.seed, self.writers, self.rows);
        let (oracle, shared) = (Arc::new(Oracle::new()), Arc::new(Shared::default()));
        let thread = |number| {
            let (plan, oracle, shared) = (self.clone(), Arc::clone(&oracle), Arc::clone(&shared));
            spawn(move || Writer::new(number, plan, oracle, shared).run())
        };
        let threads = (0..self.writers).map(thread).collect();
        Load { oracle, shared, threads, seed: self.seed, started: Instant::now() }
    }
}

// === impl Load ===

impl Load {
    /// A plan for a table, reached by a URL without TLS; role `app` owns the tables that the harness makes.
    pub fn on(url: &str, outbox: &Outbox) -> Plan {
        Plan {
            url: url.to_owned(),
            table: outbox.table.clone(),
            topic: None,
            writers: 4,
            keys: 10,
            rows: 1..=5,
            rollbacks: 0.1,
            savepoints: 0.1,
            events_per_second: None,
            events: None,
            padding: String::new(),
            seed: Seed::fresh(),
        }
    }

    /// What knows every row; complete once the writers have stopped.
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// Rows committed so far.
    pub fn committed(&self) -> u64 {
        self.shared.committed.load(Ordering::SeqCst)
    }

    /// Waits until so many rows are committed.
    #[track_caller]
    pub fn until_committed(&self, n: u64, limit: Duration) {
        let done = try_until(limit, || (self.committed() >= n || self.threads.iter().any(JoinHandle::is_finished)).then_some(()));
        assert!(done.is_some(), "{} of {n} rows were committed within {limit:?}", self.committed());
    }

    /// Lets every writer end its transaction; answers what is known. Panics when a writer did.
    #[track_caller]
    pub fn stop(&mut self) -> Told {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.finish()
    }

    /// Waits for a plan with a number of events. Panics when a writer did.
    #[track_caller]
    pub fn finish(&mut self) -> Told {
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("a writer of the load panicked; see above");
        }
        let told = self.oracle.told();
        let reconnects = self.shared.reconnects.load(Ordering::SeqCst);
        println!("load over after {:.1?}: seed {}, {told:?}, {reconnects} reconnects", self.started.elapsed(), self.seed);
        told
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in std::mem::take(&mut self.threads) {
            let _ = thread.join();
        }
    }
}

/// One thread with one connection and keys of its own.
struct Writer {
    number: u64,
    plan: Plan,
    oracle: Arc<Oracle>,
    shared: Arc<Shared>,
    seed: Seed,
    connection: Option<(Client, Statement, i32)>,
    /// The place that each key has reached.
    places: Vec<u64>,
    written: u64,
    transactions: u64,
}

/// The rows of one transaction, by what will become of them.
#[derive(Default)]
struct Work {
    kept: Vec<Event>,
    undone: Vec<Event>,
    is_rolled_back: bool,
    has_commit_been_sent: bool,
}

// === impl Writer ===

impl Writer {
    fn new(number: u64, plan: Plan, oracle: Arc<Oracle>, shared: Arc<Shared>) -> Self {
        let seed = Seed::new(plan.seed.wrapping_mul(1_000_003).wrapping_add(number));
        let places = vec![0; usize::try_from(plan.keys).expect("few keys")];
        Self { number, plan, oracle, shared, seed, connection: None, places, written: 0, transactions: 0 }
    }

    fn run(mut self) {
        let start = Instant::now();
        while !self.is_over() {
            if !self.connect() {
                break;
            }
            let mut work = Work::default();
            let result = self.transact(&mut work);
            self.tell(work, result.is_ok());
            if let Err(e) = result {
                let is_lost = self.connection.as_ref().is_none_or(|(client, ..)| client.is_closed());
                assert!(is_lost || is_of_shutdown(&e), "load: the server refused a statement: {e:?}");
            }
            self.keep_pace(start);
        }
    }

    fn is_over(&self) -> bool {
        let is_full = self.plan.events.is_some_and(|n| self.shared.committed.load(Ordering::SeqCst) >= n);
        is_full || self.shared.is_over.load(Ordering::SeqCst)
    }

    /// Connects if need be; false when told to stop meanwhile.
    fn connect(&mut self) -> bool {
        if self.connection.as_ref().is_some_and(|(client, ..)| !client.is_closed()) {
            return true;
        }
        let old = self.connection.take().map(|(.., pid)| pid);
        let mut config: Config = self.plan.url.parse().expect("the load has a PostgreSQL URL");
        config.connect_timeout(secs(5)).application_name("relay-tests load");
        let outcome = try_until(DOWN_LIMIT, || {
            if self.shared.is_over.load(Ordering::SeqCst) {
                return Some(None);
            }
            let mut client = config.connect(NoTls).ok()?;
            // A backend cut off at COMMIT may still be at it: our next transaction must not overtake it.
            let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1";
            if old.is_some_and(|pid| client.query(ended, &[&pid]).map_or(true, |rows| !rows.is_empty())) {
                return None;
            }
            let pid = client.query_one("SELECT pg_backend_pid()", &[]).ok()?.get(0);
            let statement = client.prepare(&insert(&self.plan.table)).ok()?;
            Some(Some((client, statement, pid)))
        });
        self.connection = outcome.unwrap_or_else(|| panic!("load: no connection to {} for {DOWN_LIMIT:?}", self.plan.url));
        self.shared.reconnects.fetch_add(u64::from(old.is_some() && self.connection.is_some()), Ordering::SeqCst);
        self.connection.is_some()
    }

    fn transact(&mut self, work: &mut Work) -> Result<(), postgres::Error> {
        self.transactions += 1;
        let rows = self.seed.between(*self.plan.rows.start(), *self.plan.rows.end());
        work.is_rolled_back = self.seed.chance(self.plan.rollbacks);
        let has_savepoint = self.seed.chance(self.plan.savepoints);
        let is_undone = has_savepoint && self.seed.chance(0.5);
        let first = if has_savepoint { self.seed.below(rows + 1) } else { rows };
        self.run_sql("BEGIN")?;
        self.insert(first, &mut work.kept)?;
        if has_savepoint {
            self.run_sql("SAVEPOINT part")?;
            self.insert(rows - first, if is_undone { &mut work.undone } else { &mut work.kept })?;
            self.run_sql(if is_undone { "ROLLBACK TO SAVEPOINT part" } else { "RELEASE SAVEPOINT part" })?;
        }
        if work.is_rolled_back {
            return self.run_sql("ROLLBACK");
        }
        work.has_commit_been_sent = true;
        self.run_sql("COMMIT")
    }

    fn insert(&mut self, rows: u64, into: &mut Vec<Event>) -> Result<(), postgres::Error> {
        let from = into.len();
        for _ in 0..rows {
            let at = self.seed.below(self.plan.keys);
            let place = &mut self.places[usize::try_from(at).expect("few keys")];
            *place += 1;
            self.written += 1;
            into.push(Event { number: self.number << 40 | self.written, key: format!("w{}-k{at}", self.number), place: *place });
        }
        let events = &into[from..];
        if events.is_empty() {
            return Ok(());
        }
        let keys: Vec<&str> = events.iter().map(|event| event.key.as_str()).collect();
        let transaction = self.number << 40 | self.transactions;
        let payloads: Vec<String> = events.iter().map(|event| event.payload(transaction, &self.plan.padding)).collect();
        let aggregate_type = self.plan.topic.is_none().then_some("load");
        let (client, statement, _) = self.connection.as_mut().expect("the writer has connected");
        client.execute(statement, &[&self.plan.topic, &aggregate_type, &keys, &payloads]).map(drop)
    }

    fn run_sql(&mut self, statement: &str) -> Result<(), postgres::Error> {
        self.connection.as_mut().expect("the writer has connected").0.batch_execute(statement)
    }

    fn tell(&self, work: Work, has_ended_well: bool) {
        let outcome = match (work.is_rolled_back, work.has_commit_been_sent, has_ended_well) {
            (true, ..) | (_, false, _) => Outcome::Aborted,
            (_, true, true) => Outcome::Committed,
            (_, true, false) => Outcome::Unknown,
        };
        if outcome == Outcome::Committed {
            self.shared.committed.fetch_add(work.kept.len() as u64, Ordering::SeqCst);
        }
        self.oracle.tell(outcome, work.kept);
        if !work.undone.is_empty() {
            self.oracle.tell(Outcome::Aborted, work.undone);
        }
    }

    fn keep_pace(&self, start: Instant) {
        let Some(rate) = self.plan.events_per_second else { return };
        let due = Duration::from_secs_f64(self.written as f64 * self.plan.writers as f64 / rate);
        let late = start.elapsed();
        sleep(due.saturating_sub(late).min(secs(1)));
    }
}

/// `unnest` keeps the order of its arrays, so the rows are written in the order of their places.
fn insert(table: &str) -> String {
    format!(
        "INSERT INTO {table} (topic, aggregate_type, key, type, payload) \
         SELECT $1::text, $2::text, k, 'load.made', p::jsonb FROM unnest($3::text[], $4::text[]) AS u (k, p)"
    )
}

/// Errors that tell of a server going down: the connection may be open for a moment more.
fn is_of_shutdown(error: &postgres::Error) -> bool {
    error.code().is_some_and(|code| ["57", "08", "53"].iter().any(|class| code.code().starts_with(class)))
}

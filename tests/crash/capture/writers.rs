//! Writers of captured tables: every statement that changes rows, in small and large transactions, some of them undone.

use postgres::{Client, NoTls};
use relay_tests::postgres::Postgres;
use relay_tests::seed::Seed;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// Rows by identifier: version and note.
pub(crate) type Rows = BTreeMap<i64, (i64, String)>;

/// Threads that write until they are told to stop. Each has rows of its own.
pub(crate) struct Writers {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

const WRITERS: u64 = 4;
/// Rows of a writer in each table.
const IDS: u64 = 300;

// === impl Writers ===

impl Writers {
    pub(crate) fn start(url: &str, tables: &'static [&'static str], seed: u64) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = (0..WRITERS).map(|number| {
            let (mut client, is_over) = (Client::connect(url, NoTls).expect("the writer connects"), Arc::clone(&is_over));
            let mut seed = Seed::new(seed.wrapping_mul(31).wrapping_add(number));
            spawn(move || {
                let mut transactions = 0;
                while !is_over.load(Ordering::SeqCst) {
                    let statements = transaction(number * 10_000, tables, &mut seed);
                    client.batch_execute(&statements).unwrap_or_else(|e| panic!("{e:?} in {statements}"));
                    transactions += 1;
                    sleep(Duration::from_millis(seed.between(5, 60)));
                }
                transactions
            })
        });
        Self { threads: threads.collect(), is_over }
    }

    /// Ends the load; how many transactions there were.
    pub(crate) fn stop(&mut self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        std::mem::take(&mut self.threads).into_iter().map(|thread| thread.join().expect("no writer panicked")).sum()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// What a table holds.
pub(crate) fn held(db: &Postgres, table: &str) -> Rows {
    let rows = db.superuser().query(&format!("SELECT id, version, note FROM {table}"), &[]).expect("the table is read");
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

/// Each update raises the version by one, so that a missing one shows.
fn transaction(first: u64, tables: &[&str], seed: &mut Seed) -> String {
    let is_large = seed.chance(0.15);
    let mut sql = "BEGIN;".to_owned();
    for _ in 0..if is_large { seed.between(3, 10) } else { seed.between(1, 4) } {
        let width = if is_large { seed.between(20, IDS / 2) } else { seed.below(3) };
        let has_savepoint = seed.chance(0.2);
        if has_savepoint {
            sql.push_str("SAVEPOINT part;");
        }
        sql.push_str(&statement(first, tables[seed.below(tables.len() as u64) as usize], width, seed));
        if has_savepoint {
            sql.push_str(if seed.chance(0.5) { "ROLLBACK TO SAVEPOINT part;" } else { "RELEASE SAVEPOINT part;" });
        }
    }
    sql.push_str(if seed.chance(0.1) { "ROLLBACK" } else { "COMMIT" });
    sql
}

fn statement(first: u64, table: &str, width: u64, seed: &mut Seed) -> String {
    let low = first + seed.below(IDS - width);
    let (high, note) = (low + width, seed.number() % 1_000_000);
    match seed.below(6) {
        0 | 1 => {
            format!("INSERT INTO {table} SELECT g, 1, 'n{note}' FROM generate_series({low}, {high}) g ON CONFLICT DO NOTHING;")
        }
        2 | 3 => format!("UPDATE {table} SET version = version + 1, note = 'n{note}' WHERE id BETWEEN {low} AND {high};"),
        4 => format!("DELETE FROM {table} WHERE id BETWEEN {low} AND {high};"),
        // Another key, free or not yet used.
        _ => format!(
            "UPDATE {table} t SET id = id + {IDS}, version = version + 1 WHERE id BETWEEN {low} AND {high} \
             AND NOT EXISTS (SELECT 1 FROM {table} o WHERE o.id = t.id + {IDS});\
             DELETE FROM {table} WHERE id BETWEEN {low} + {IDS} AND {high} + {IDS} AND version % 3 = 0;"
        ),
    }
}

//! Reading captured tables as a whole: which there are, how their rows look, and their rows, by COPY.
//!
//! Nothing here decides what is read or what of it counts; the session does.

mod chunk;
mod export;
mod line;
mod shape;
mod tables;

pub use chunk::{ChunkRows, Chunker, Desk};
pub use export::{ExportReader, ExportedSlot, Exporting, ReaderHead};
pub use line::split_line;
pub use shape::Shape;
pub use tables::{Found, Tables};

use crate::error::Error;
use crate::inspect::server_version;
use crate::source::Source;
use relay_pgwire::Connection;

/// Prefix of the logical messages by which relay marks places in the log.
pub const WATERMARK_PREFIX: &str = "relay.snapshot";

// === impl Source ===

impl Source {
    /// A connection that reads tables: an error instead of rows that row security hides, nothing that ends a long transaction, and
    /// commits that wait for our own disk alone, so that watermarks come by although a standby is slow.
    fn connect_snapshot(&self) -> Result<Connection, Error> {
        let mut connection = self.connect_as(|wire| {
            for (name, value) in [
                ("row_security", "off"),
                ("statement_timeout", "0"),
                ("idle_in_transaction_session_timeout", "0"),
                ("idle_session_timeout", "0"),
                ("synchronous_commit", "local"),
            ] {
                wire.set_startup_parameter(name, value);
            }
            // A row may be as large as the server can send it.
            wire.set_max_message(i32::MAX as usize);
        })?;
        connection.set_query_timeout(None);
        if server_version(&connection).unwrap_or(14) >= 17 {
            connection.query("SET transaction_timeout = 0")?;
        }
        Ok(connection)
    }
}

/// What the server says of a table that cannot be read, with the table and our role in front; `None` when the reason is another one.
fn refused(error: &relay_pgwire::Error, table: &str, role: &str) -> Option<Error> {
    // Insufficient privilege, which row security is, too; an unknown column or function, a condition that is no condition, or a value
    // that it cannot be computed for.
    let is_refusal = error.sqlstate().is_some_and(|state| state.starts_with("42") && state != "42P01" || state.starts_with("22"));
    is_refusal.then(|| Error::Refused(format!("table {table} cannot be read by role `{role}`: {error}")))
}

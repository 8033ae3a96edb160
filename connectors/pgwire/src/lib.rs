//! A PostgreSQL connection on blocking sockets: connect, TLS, authentication, simple queries and copy-both replication.

mod auth;
mod buffer;
mod certificate;
mod channel;
mod config;
mod connect;
mod copy_both;
mod error;
mod frame;
mod fuzz;
mod message;
mod query;
mod quote;
mod rows;
mod server_error;
mod socket;
mod startup;
mod status;
mod tls;
mod url;
mod wire;

pub use config::{ChannelBinding, Config, Host, SslMode, TargetSessionAttrs};
pub use connect::Connection;
pub use copy_both::{CopyBoth, Fill};
pub use error::{Attempt, Error};
pub use frame::{Body, Frame};
pub use fuzz::fuzz_body;
pub use query::{Column, RawRow, Row};
pub use quote::{quote_identifier, quote_literal, quote_replication_literal};
pub use rows::{Answer, Rows, cells};
pub use server_error::ServerError;
pub use status::Status;

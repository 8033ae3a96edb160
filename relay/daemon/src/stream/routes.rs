//! What the configuration says of tables and messages: outboxes first, then captures.

use relay_encode::{AfterPublish, Captures, Order};
use relay_postgres::poll::{Mark, PollOrder, PollRule};
use std::time::Duration;

/// Outbox routes and captures of a pipeline; shared with the jobs that create the publication.
#[derive(Debug)]
pub(crate) struct Routes {
    routes: relay_encode::Routes,
    captures: Captures,
}

// === impl Routes ===

impl Routes {
    pub(crate) fn new(routes: relay_encode::Routes, captures: Captures) -> Self {
        Self { routes, captures }
    }

    /// The hash that a checkpoint carries, over the routes, the captures and `others`.
    pub(crate) fn fingerprint(&self, others: &[(&str, &str)]) -> String {
        let mut all = others.to_vec();
        if self.has_captures() {
            all.push(("captures", self.captures.canonical()));
        }
        relay_encode::fingerprint::config_fingerprint(&self.routes, &all)
    }

    /// Whether an outbox or a capture takes the rows of this table, given as `schema.table`.
    pub(crate) fn names_table(&self, name: &str) -> bool {
        self.routes.names_table(name) || self.captures.names_table(name)
    }

    /// Whether rows of this table are to come whatever happens: an outbox takes them, or a capture that names it in full.
    pub(crate) fn insists_on(&self, name: &str) -> bool {
        self.routes.names_table(name) || self.captures.insists_on(name)
    }

    /// Whether an outbox takes the rows of this table.
    pub(crate) fn names_outbox(&self, name: &str) -> bool {
        self.routes.names_table(name)
    }

    /// The outbox routes.
    pub(crate) fn outboxes(&self) -> &relay_encode::Routes {
        &self.routes
    }

    /// The captures.
    pub(crate) fn captures(&self) -> &Captures {
        &self.captures
    }

    /// Whether anything of captures is asked for: tables, messages, transaction records.
    fn has_captures(&self) -> bool {
        !self.captures.is_empty() || self.captures.has_messages() || self.captures.has_transaction_metadata()
    }

    /// Whether any outbox takes logical messages.
    pub(super) fn has_message_outboxes(&self) -> bool {
        self.routes.iter().any(|route| route.message().is_some())
    }

    /// The orders of the routes that have one, for polling.
    pub(crate) fn orders(&self) -> impl Iterator<Item = &Order> {
        self.routes.iter().filter_map(|route| route.order())
    }

    /// What the presets in use want to be known at start: their names and words.
    pub(crate) fn notes(&self) -> Vec<(&'static str, &'static str)> {
        let mut notes: Vec<_> = self.routes.iter().map(|route| (route.preset().name, route.preset().warn)).collect();
        notes.retain(|(_, words)| !words.is_empty());
        notes.sort_unstable();
        notes.dedup();
        notes
    }

    /// The tables of the routes that have one, as they are named: exact, or by a glob.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().filter_map(|route| route.table())
    }

    /// How this table is polled, if a route takes it.
    pub(crate) fn poll_rule(&self, name: &str) -> Option<PollRule> {
        let route = self.routes.named(name)?;
        let order = match route.order()? {
            Order::Tick { xid, order } => PollOrder::Tick { xid: xid.clone(), order: order.clone() },
            Order::Claim { order } => PollOrder::Claim { order: order.clone() },
        };
        let mark = match route.after_publish() {
            AfterPublish::Keep => Mark::Keep,
            AfterPublish::Delete => Mark::Delete,
            AfterPublish::Update(assignments) => {
                Mark::Update(assignments.iter().map(|(column, literal)| (column.clone(), literal.sql())).collect())
            }
        };
        Some(PollRule { order, condition: route.poll_condition().map(str::to_owned), mark })
    }

    /// `retention` and the column that tells a row's age, of the route that takes this table.
    pub(crate) fn retention(&self, name: &str) -> Option<(Option<Duration>, Option<String>)> {
        let route = self.routes.named(name)?;
        Some((route.retention(), route.timestamp_column().map(str::to_owned)))
    }

    /// Whether any route has a `retention`.
    pub(crate) fn has_retention(&self) -> bool {
        self.routes.iter().any(|route| route.retention().is_some())
    }

    /// Whether any route or capture takes rows, and not only logical messages.
    pub(super) fn has_tables(&self) -> bool {
        !self.captures.is_empty() || self.routes.iter().any(|route| route.table().is_some())
    }
}

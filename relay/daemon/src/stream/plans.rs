//! Compiled plans by table: made when a table's first fresh row comes, dropped when its Relation changes.

use relay_core::session::Fault;
use relay_core::{Kind, Relation};
use relay_encode::{AfterPublish, MessagePlans, Order, Plan};
use relay_postgres::TableId;
use relay_postgres::poll::{Mark, PollOrder, PollRule};
use std::time::{Duration, Instant};

/// What the routes say of tables and messages; shared with the jobs that create the publication.
#[derive(Debug)]
pub(crate) struct Routes {
    routes: relay_encode::Routes,
}

/// How the rows of one table are treated.
pub(super) enum Planned {
    /// Encoded by this plan.
    Route(Box<Plan>),
    /// Passed by and counted: no route names the table.
    Unrouted,
    /// No route names it, and it is not known yet whether it is a leaf of a table that one names.
    Unknown {
        /// When that was asked.
        asked: Option<Instant>,
    },
    /// The stream must not pass its rows.
    Refused(Fault),
}

/// Plans of all tables met so far.
pub(super) struct Plans {
    routes: std::sync::Arc<Routes>,
    stops_on_unrouted: bool,
    tables: Vec<Option<Planned>>,
    messages: MessagePlans,
}

// === impl Routes ===

impl Routes {
    pub(crate) fn new(routes: relay_encode::Routes) -> Self {
        Self { routes }
    }

    /// The hash that a checkpoint carries, over the routes and `others`.
    pub(crate) fn fingerprint(&self, others: &[(&str, &str)]) -> String {
        relay_encode::fingerprint::config_fingerprint(&self.routes, others)
    }

    /// Whether a route takes the rows of this table, given as `schema.table`.
    pub(crate) fn names_table(&self, name: &str) -> bool {
        self.routes.names_table(name)
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

    /// Whether any route takes rows, and not only logical messages.
    pub(super) fn has_tables(&self) -> bool {
        self.routes.iter().any(|route| route.table().is_some())
    }
}

// === impl Plans ===

impl Plans {
    pub(super) fn new(routes: std::sync::Arc<Routes>, stops_on_unrouted: bool) -> Self {
        let messages = MessagePlans::new(routes.routes.clone());
        Self { routes, stops_on_unrouted, tables: Vec::new(), messages }
    }

    /// A Relation message came: what was compiled for the table's old shape is void. Answers whether there was an old shape.
    pub(super) fn changed(&mut self, table: TableId) -> bool {
        self.tables.get_mut(table.0).is_some_and(|planned| planned.take().is_some())
    }

    /// The plan for a table's rows.
    #[inline]
    pub(super) fn of(&mut self, table: TableId, relation: &Relation) -> &mut Planned {
        if self.tables.get(table.0).is_none_or(Option::is_none) {
            self.compile(table, relation);
        }
        self.tables[table.0].get_or_insert(Planned::Unrouted)
    }

    /// Whether any route takes logical messages.
    pub(super) fn has_messages(&self) -> bool {
        self.routes.routes.iter().any(|route| route.message().is_some())
    }

    /// The plan for messages of this prefix, if a route takes them.
    pub(super) fn message(&mut self, prefix: &str) -> Result<Option<&Plan>, Fault> {
        self.messages.plan(prefix).map_err(|error| refusal(&error))
    }

    /// The answer to [`Planned::Unknown`]: the table's partition root, if it has one.
    pub(super) fn placed(&mut self, table: TableId, root: Result<Option<String>, Fault>) {
        let Some(planned) = self.tables.get_mut(table.0) else { return };
        // A table that has a new shape meanwhile is judged anew.
        if !matches!(planned, Some(Planned::Unknown { .. })) {
            return;
        }
        *planned = match root {
            Ok(Some(root)) if self.routes.names_table(&root) => Some(Planned::Refused(Fault {
                kind: Kind::Unrouted,
                message: format!(
                    "rows of `{root}` come under the name of one of its partitions; for new rows: ALTER PUBLICATION … SET \
                     (publish_via_partition_root = true), for those already written: name the partitions by a glob in `table`"
                ),
            })),
            Ok(_) => Some(Planned::Unrouted),
            // Not known: asked again after a while.
            Err(_) => return,
        };
    }

    #[cold]
    fn compile(&mut self, table: TableId, relation: &Relation) {
        if self.tables.len() <= table.0 {
            self.tables.resize_with(table.0 + 1, || None);
        }
        let planned = match self.routes.routes.table(relation) {
            Some(route) => match Plan::compile(route, relation) {
                Ok(plan) => Planned::Route(Box::new(plan)),
                Err(error) => Planned::Refused(refusal(&error)),
            },
            None if self.stops_on_unrouted => Planned::Refused(Fault {
                kind: Kind::Unrouted,
                message: format!("table `{relation}` is published, but no [[outbox]] names it"),
            }),
            None => {
                tracing::warn!(event = "table.unrouted", table = %relation, "rows of this table are passed by: no [[outbox]] names it");
                Planned::Unknown { asked: None }
            }
        };
        self.tables[table.0] = Some(planned);
    }
}

/// A table that does not fit its route is repaired on the server, not by a new configuration alone: the stream stops, the process stays.
fn refusal(error: &relay_encode::PlanError) -> Fault {
    let hint = if error.hint.is_empty() { String::new() } else { format!("; {}", error.hint) };
    Fault { kind: Kind::ColumnMissing, message: format!("{error}{hint}") }
}

//! Compiled plans by table: made when a table's first fresh row comes, dropped when its Relation changes.

use super::routes::Routes;
use relay_core::session::Fault;
use relay_core::{Catalog, Kind, Relation};
use relay_encode::{CapturePlan, LogicalMessages, MessagePlans, Plan};
use relay_postgres::TableId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the rows of one table are treated.
pub(super) enum Planned {
    /// Rows of an outbox, encoded by this plan.
    Route(Box<Plan>),
    /// Row changes, encoded by this plan.
    Capture(Box<CapturePlan>),
    /// Row changes of a table of which the catalog must say more first.
    Reading(Question),
    /// Passed by and counted: no route names the table.
    Unrouted,
    /// No route names it, and it is not known yet whether it is a leaf of a table that one names.
    Unknown(Question),
    /// The stream must not pass its rows.
    Refused(Fault),
}

/// Something about a table that is asked on another connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Which version of the table it is about: an answer to an older one is void.
    version: u64,
    /// When it is asked, for the first time or again.
    ask_at: Instant,
}

/// Plans of all tables met so far.
pub(super) struct Plans {
    routes: Arc<Routes>,
    stops_on_unrouted: bool,
    tables: Vec<Option<Planned>>,
    /// The catalog's share in the plans of captured tables.
    catalogs: HashMap<TableId, Catalog>,
    /// Plans of captured tables that hold if the catalog still says the same.
    doubted: HashMap<TableId, Box<CapturePlan>>,
    messages: MessagePlans,
    captured_messages: Option<LogicalMessages>,
    database: String,
    version: u64,
    /// Who has a topic to itself, and under which name.
    topics: HashMap<Box<str>, (TableId, Box<str>)>,
}

/// How long an answer may take: above the connect time-outs.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How soon after a failure the question is asked again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

// === impl Question ===

impl Question {
    /// The version to ask about, if it is time to ask.
    pub(super) fn ask(&mut self) -> Option<u64> {
        let now = Instant::now();
        (now >= self.ask_at).then(|| {
            self.ask_at = now + ASK_AGAIN;
            self.version
        })
    }
}

// === impl Planned ===

impl Planned {
    /// Whether rows of the table become events, now or once its plan is there.
    fn is_published(&self) -> bool {
        matches!(self, Planned::Route(_) | Planned::Capture(_) | Planned::Reading(_))
    }
}

// === impl Plans ===

impl Plans {
    pub(super) fn new(routes: Arc<Routes>, stops_on_unrouted: bool) -> Self {
        let messages = MessagePlans::new(routes.outboxes().clone());
        Self {
            routes,
            stops_on_unrouted,
            tables: Vec::new(),
            catalogs: HashMap::new(),
            doubted: HashMap::new(),
            messages,
            captured_messages: None,
            database: String::new(),
            version: 0,
            topics: HashMap::new(),
        }
    }

    /// A connection is there, to the database of that name. What was refused is looked at again.
    pub(super) fn connected(&mut self, database: &str) {
        if self.captured_messages.is_none() || self.database != database {
            database.clone_into(&mut self.database);
            self.captured_messages = Some(LogicalMessages::new(self.routes.captures(), database));
        }
        if self.tables.iter().flatten().any(|planned| matches!(planned, Planned::Refused(_))) {
            // Also those that were in the way of others.
            self.tables.clear();
            self.topics.clear();
            self.doubted.clear();
        }
    }

    /// A table has another shape: what was compiled for the old one is void. Answers whether its rows were published by that.
    pub(super) fn changed(&mut self, table: TableId) -> bool {
        self.topics.retain(|_, (owner, _)| *owner != table);
        self.doubted.remove(&table);
        self.catalogs.remove(&table);
        self.tables.get_mut(table.0).and_then(Option::take).is_some_and(|planned| planned.is_published())
    }

    /// A table has the shape that it had, and perhaps another catalog: that is read again before its next row.
    pub(super) fn doubted(&mut self, table: TableId) {
        let Some(planned) = self.tables.get_mut(table.0) else { return };
        match planned.take() {
            Some(Planned::Capture(plan)) => drop(self.doubted.insert(table, plan)),
            // An answer that is under way may be older than the change.
            Some(Planned::Reading(_)) => {}
            other => {
                *planned = other;
                return;
            }
        }
        self.version += 1;
        *planned = Some(Planned::Reading(Question { version: self.version, ask_at: Instant::now() }));
    }

    /// The plan for a table's rows.
    #[inline]
    pub(super) fn of(&mut self, table: TableId, relation: &Relation) -> &mut Planned {
        if self.tables.get(table.0).is_none_or(Option::is_none) {
            self.compile(table, relation);
        }
        self.tables[table.0].get_or_insert(Planned::Unrouted)
    }

    /// Whether any outbox or capture takes logical messages.
    pub(super) fn has_messages(&self) -> bool {
        self.routes.has_message_outboxes() || self.routes.captures().has_messages()
    }

    /// The plan for messages of this prefix, if an outbox takes them.
    pub(super) fn message(&mut self, prefix: &str) -> Result<Option<&Plan>, Fault> {
        self.messages.plan(prefix).map_err(|error| refusal(&error))
    }

    /// What encodes messages of this prefix in the row-capture style, if they are asked for.
    pub(super) fn captured_message(&self, prefix: &str) -> Option<&LogicalMessages> {
        self.captured_messages.as_ref().filter(|_| self.routes.captures().takes_message(prefix))
    }

    /// The answer to [`Planned::Unknown`]: the table's partition root, if it has one.
    pub(super) fn placed(&mut self, table: TableId, version: u64, root: Result<Option<String>, Fault>) {
        let Some(Some(planned)) = self.tables.get_mut(table.0) else { return };
        // A table that has a new shape meanwhile is judged anew.
        let Planned::Unknown(question) = planned else { return };
        if question.version != version {
            return;
        }
        match root {
            Ok(Some(root)) if self.routes.names_table(&root) => {
                *planned = Planned::Refused(Fault {
                    kind: Kind::Unrouted,
                    message: format!(
                        "rows of `{root}` come under the name of one of its partitions; for new rows: ALTER PUBLICATION … SET \
                         (publish_via_partition_root = true), for those already written: name the partitions by a glob"
                    ),
                });
            }
            Ok(_) => *planned = Planned::Unrouted,
            Err(fault) => question.failed(&fault),
        }
    }

    /// The answer to [`Planned::Reading`]: the catalog's share of the table. Answers whether that is another than it was.
    pub(super) fn learned(&mut self, table: TableId, version: u64, relation: &Relation, catalog: Result<Catalog, Fault>) -> bool {
        let Some(Some(planned)) = self.tables.get_mut(table.0) else { return false };
        let Planned::Reading(question) = planned else { return false };
        if question.version != version {
            return false;
        }
        let catalog = match catalog {
            Ok(catalog) => catalog,
            Err(fault) => {
                question.failed(&fault);
                return false;
            }
        };
        let known = self.catalogs.get(&table);
        // Of a table that is gone the catalog says nothing; its last rows are as those before them.
        let is_same = |known: &Catalog| *known == catalog || catalog.columns.is_empty();
        if known.is_some_and(is_same)
            && let Some(plan) = self.doubted.remove(&table)
        {
            *planned = Planned::Capture(plan);
            return false;
        }
        let Some(capture) = self.routes.captures().table(relation) else { return false };
        let is_changed = known.is_some_and(|known| super::shape::tell_catalog(relation, known, &catalog));
        *planned = match CapturePlan::compile(capture, relation, &catalog, &self.database) {
            Err(error) => Planned::Refused(refusal(&error)),
            Ok(plan) => match claim(&mut self.topics, table, &plan) {
                Err(fault) => Planned::Refused(fault),
                Ok(()) => {
                    for note in plan.notes() {
                        tracing::warn!(event = "capture.note", table = %relation, "{note}");
                    }
                    for doubt in plan.key_doubts() {
                        tracing::warn!(event = "capture.key", table = %relation, hint = doubt.hint(), "{doubt}");
                    }
                    if !plan.has_key() {
                        tracing::info!(event = "capture.keyless", table = %relation, "events of this table have no key");
                    }
                    Planned::Capture(Box::new(plan))
                }
            },
        };
        self.doubted.remove(&table);
        self.catalogs.insert(table, catalog);
        is_changed
    }

    #[cold]
    fn compile(&mut self, table: TableId, relation: &Relation) {
        if self.tables.len() <= table.0 {
            self.tables.resize_with(table.0 + 1, || None);
        }
        self.version += 1;
        let question = Question { version: self.version, ask_at: Instant::now() };
        let planned = match (self.routes.outboxes().table(relation), self.routes.captures().table(relation)) {
            (Some(route), _) => match Plan::compile(route, relation) {
                Ok(plan) => Planned::Route(Box::new(plan)),
                Err(error) => Planned::Refused(refusal(&error)),
            },
            (None, Some(_)) => Planned::Reading(question),
            (None, None) if self.stops_on_unrouted => Planned::Refused(Fault {
                kind: Kind::Unrouted,
                message: format!("table `{relation}` is published, but no [[outbox]] and no [[capture]] names it"),
            }),
            (None, None) => {
                tracing::warn!(
                    event = "table.unrouted",
                    table = %relation,
                    "rows of this table are passed by: no [[outbox]] and no [[capture]] names it"
                );
                Planned::Unknown(question)
            }
        };
        self.tables[table.0] = Some(planned);
    }
}

// === impl Question: failures ===

impl Question {
    fn failed(&mut self, fault: &Fault) {
        self.ask_at = Instant::now() + AFTER_FAILURE;
        tracing::warn!(
            event = "table.not_read",
            error.code = fault.kind.directive().code,
            "the catalog is asked again: {}",
            fault.message
        );
    }
}

/// Keeps the plan's topic for its table alone, unless the configuration says that tables share it. A table that was dropped and made
/// again has another number and the same name.
fn claim(topics: &mut HashMap<Box<str>, (TableId, Box<str>)>, table: TableId, plan: &CapturePlan) -> Result<(), Fault> {
    let Some(topic) = plan.topic().filter(|_| !plan.is_topic_on_purpose()) else { return Ok(()) };
    match topics.get(topic) {
        Some((owner, name)) if *owner != table && **name != *plan.label() => Err(Fault {
            kind: Kind::TopicShared,
            message: format!("tables `{name}` and `{}` both end in topic `{topic}`", plan.label()),
        }),
        _ => {
            topics.insert(topic.into(), (table, plan.label().into()));
            Ok(())
        }
    }
}

/// A table that does not fit its route is repaired on the server, not by a new configuration alone: the stream stops, the process stays.
pub(super) fn refusal(error: &relay_encode::PlanError) -> Fault {
    let hint = if error.hint.is_empty() { String::new() } else { format!("; {}", error.hint) };
    Fault { kind: Kind::ColumnMissing, message: format!("{error}{hint}") }
}

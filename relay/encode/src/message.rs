//! A logical message, whose content is a JSON object, becomes an event by the same plan as a row.

use crate::encode::{FilterReason, Outcome};
use crate::error::PlanError;
use crate::json;
use crate::plan::Plan;
use crate::route::{OnNonTransactional, Routes};
use crate::types::InvalidUtf8;
use relay_core::{Cell, Event, Poison, PoisonReason, RelayPos, Row, Transaction};

/// The plans of message prefixes, compiled when a prefix is first seen.
#[derive(Debug, Default)]
pub struct MessagePlans {
    routes: Routes,
    plans: Vec<Plan>,
    last: usize,
}

// === impl MessagePlans ===

impl MessagePlans {
    /// Prefixes under one glob are row data, so their plans are forgotten now and then.
    const KEEP: usize = 256;

    /// Plans for the message routes among `routes`.
    #[must_use]
    pub fn new(routes: Routes) -> Self {
        Self { routes, plans: Vec::new(), last: 0 }
    }

    /// The plan for messages of that prefix; `None` when no route takes them.
    ///
    /// # Errors
    /// As [`Plan::compile_message`].
    pub fn plan(&mut self, prefix: &str) -> Result<Option<&Plan>, PlanError> {
        if self.plans.get(self.last).is_none_or(|plan| plan.label() != prefix) {
            self.last = match self.plans.iter().position(|plan| plan.label() == prefix) {
                Some(known) => known,
                None => {
                    let Some(route) = self.routes.message(prefix) else { return Ok(None) };
                    let plan = Plan::compile_message(route, prefix)?;
                    if self.plans.len() >= Self::KEEP {
                        self.plans.clear();
                    }
                    self.plans.push(plan);
                    self.plans.len() - 1
                }
            };
        }
        Ok(self.plans.get(self.last))
    }
}

// === impl Plan ===

impl Plan {
    /// Encodes a logical message into `event`, which is cleared first.
    ///
    /// # Errors
    /// As [`Plan::encode`]; also content that is not a JSON object, and a message outside a transaction where the route
    /// refuses it.
    pub fn encode_message(
        &self,
        transaction: &Transaction,
        position: RelayPos<'_>,
        content: &[u8],
        is_transactional: bool,
        now_ms: i64,
        event: &mut Event,
    ) -> Result<Outcome, Poison> {
        event.clear();
        if !is_transactional {
            return match self.route.on_non_transactional {
                OnNonTransactional::Ignore => Ok(Outcome::Filtered(FilterReason::Operation)),
                OnNonTransactional::Poison => {
                    let message = "the message was emitted outside a transaction (first argument false)";
                    Err(Poison::new(PoisonReason::Route, message))
                }
            };
        }
        // Base64 of the whole content would be no message any more: that stays poison.
        let mends = self.route.contract.mends() == Some(InvalidUtf8::Replace);
        let mended = mends.then(|| String::from_utf8_lossy(content));
        let content = mended.as_deref().map_or(content, str::as_bytes);
        let mut cells = std::mem::take(&mut self.scratch.borrow_mut().cells);
        let outcome = self
            .find_members(content, &mut cells)
            .and_then(|()| self.encode(transaction, position, &Row::new(content, &cells), now_ms, event));
        self.scratch.borrow_mut().cells = cells;
        outcome
    }

    /// One cell for each member that the plan reads. The last of equal names counts.
    fn find_members(&self, content: &[u8], cells: &mut Vec<Cell>) -> Result<(), Poison> {
        cells.clear();
        cells.resize(self.members.len(), Cell::Unchanged);
        if simdutf8::basic::from_utf8(content).is_err() {
            return Err(Poison::new(PoisonReason::Utf8, "the message's content is not UTF-8"));
        }
        let Some(members) = json::members(content) else {
            return Err(Poison::new(PoisonReason::Route, "the message's content is not a JSON object"));
        };
        for member in members {
            let member = member.map_err(|error| Poison::new(PoisonReason::Route, error.words("the message's content")))?;
            let Some(index) = self.members.iter().position(|name| json::stands_for(member.name, name.as_bytes())) else {
                continue;
            };
            let span = (u32::try_from(member.start), u32::try_from(member.value.len()));
            if let (Some(cell), (Ok(start), Ok(len))) = (cells.get_mut(index), span) {
                *cell = if member.value == b"null" { Cell::Null } else { Cell::Text { start, len } };
            }
        }
        Ok(())
    }
}

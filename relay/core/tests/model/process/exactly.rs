//! What a process does for exactly-once: the coordinator's calls, and the frames that it keeps to read them again.

use super::super::kafka::transactions::{Answer, At, Call};
use super::super::postgres::Item;
use super::super::world::World;
use super::changes::Marks;
use super::{Process, Step};
use relay_core::checkpoint::{Guarantee, Reading, Record};
use relay_core::session::Input;
use std::collections::VecDeque;

/// Frames that were dealt with since what is stored, and where a replay of them stands.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) is_used: bool,
    items: VecDeque<Item>,
    /// The next one to come again.
    cursor: Option<usize>,
    /// Where the store under way was ordered.
    mark: usize,
    /// The transaction being read began with this, here and where the store was ordered.
    begun: Option<Item>,
    begun_at_mark: Option<Item>,
    /// What was counted of it by then, and by what is stored.
    marks_at_mark: Marks,
    marks: Option<Marks>,
}

// === impl Frames ===

impl Frames {
    pub(super) fn clear(&mut self) {
        *self = Self { is_used: self.is_used, ..Self::default() };
    }

    /// What was counted of the transaction whose begin comes again now, before the ring's own frames of it.
    pub(super) fn counted(&self) -> Option<Marks> {
        self.marks.filter(|_| self.cursor == Some(0))
    }

    /// The frame that comes again next.
    pub(super) fn head(&self) -> Option<Item> {
        self.items.get(self.cursor?).cloned()
    }

    fn mark(&mut self, marks: Marks) {
        self.marks_at_mark = marks;
        self.mark = self.cursor.unwrap_or(self.items.len());
        self.begun_at_mark = self.begun.clone();
    }

    fn cut(&mut self) {
        self.items.drain(..self.mark);
        self.cursor = self.cursor.map(|cursor| cursor - self.mark);
        self.marks = None;
        if let Some(begun) = self.begun_at_mark.take() {
            self.marks = Some(self.marks_at_mark);
            self.items.push_front(begun);
            self.cursor = self.cursor.map(|cursor| cursor + 1);
        }
        self.mark = 0;
    }
}

impl Process {
    pub(super) fn is_exact(&self) -> bool {
        self.guarantee == Guarantee::ExactlyOnce
    }

    /// A frame was dealt with.
    pub(super) fn keep(&mut self, item: Item, world: &mut World) {
        match item {
            Item::Begin(_) => self.ring.begun = Some(item.clone()),
            Item::Commit(..) => self.ring.begun = None,
            _ => {}
        }
        if !self.is_exact() || !self.ring.is_used {
            return;
        }
        let bytes = if let Item::Change(row) = &item { 10 + row.bytes } else { 10 };
        let is_kept = self.session.kept(bytes);
        if let Some(cursor) = self.ring.cursor {
            world.figures.replayed += 1;
            self.ring.cursor = Some(cursor + 1).filter(|next| *next < self.ring.items.len());
        } else if is_kept {
            self.ring.items.push_back(item);
        } else {
            let begun = self.ring.begun.clone();
            self.ring.clear();
            self.ring.begun = begun;
        }
    }

    pub(super) fn replay(&mut self, world: &mut World) {
        assert!(self.connection.is_some() && self.ring.is_used, "frames come again on the connection that they came on");
        world.figures.replays += 1;
        self.ring.cursor = Some(0).filter(|_| !self.ring.items.is_empty());
        // What began before the ring does is told by it.
        self.ring.begun = None;
    }

    pub(super) fn commit(&mut self, record: Record, world: &mut World) {
        self.check_store(&record, world);
        self.ring.mark(self.marks);
        self.call(Call::Commit(Box::new(record)), world);
    }

    pub(super) fn call(&mut self, call: Call, world: &mut World) {
        let mut at = At { now_ms: world.now_ms, chance: &mut world.chance };
        let kafka = &mut world.kafka;
        let trouble = kafka.weather.trouble;
        self.control.begin(call, &kafka.producers[self.producer], &mut kafka.coordinator, trouble, &mut at);
    }

    pub(super) fn call_lands(&mut self, world: &mut World) {
        let mut at = At { now_ms: world.now_ms, chance: &mut world.chance };
        let is_down = world.kafka.weather.is_down;
        if let Some(open) = self.control.lands(&mut world.kafka.coordinator, is_down, &mut at) {
            world.publish(open);
        }
        world.release();
    }

    pub(super) fn call_turn(&mut self, world: &mut World) -> Step {
        self.call_lands(world);
        let kafka = &mut world.kafka;
        let Some(answer) = self.control.answer(&mut kafka.producers[self.producer], &kafka.coordinator, world.now_ms) else {
            return Ok(());
        };
        world.output(self.id)?;
        let input = match answer {
            Answer::Stored(result) => {
                if result.is_ok() {
                    self.ring.cut();
                }
                Input::Stored(result)
            }
            Answer::Aborted(result) => Input::Aborted(result),
            Answer::Fenced(Ok(())) => {
                self.note_reading(world);
                Input::CheckpointRead(Ok(Reading::of(world.store.records().to_vec())))
            }
            Answer::Fenced(Err(error)) => Input::CheckpointRead(Err(error)),
        };
        self.input(input, world)
    }

    /// A table has another shape from here on; whether that may be taken now.
    pub(super) fn relation(&mut self, shape: u64, world: &mut World) -> bool {
        if self.shape != Some(shape) {
            if !self.session.takes_relation() {
                world.figures.waits += 1;
                return false;
            }
            self.shape = Some(shape);
        }
        true
    }
}

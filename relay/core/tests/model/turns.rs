//! Single turns of the session that a model world meets too rarely: each order and answer by hand.

use relay_core::checkpoint::{Guarantee, Reading, Record, RecordState};
use relay_core::session::{Admission, Busy, Config, Fault, Input, Note, Order, Server, Session, Slot, State};
use relay_core::sink::PurgeScope;
use relay_core::window::{FailureKind, Limits, Window};
use relay_core::{Acks, Failure, Kind, Lsn, Ticket};
use std::sync::Arc;

/// A session whose orders a test answers.
struct Desk {
    session: Session,
    acks: Arc<Acks>,
    server: Server,
    now_ms: u64,
    stored: Vec<Record>,
}

fn fault(kind: Kind) -> Fault {
    Fault { kind, message: "as the test has it".into() }
}

fn failed(kind: FailureKind) -> Failure {
    Failure { kind, message: "as the test has it".into() }
}

// === impl Desk ===

impl Desk {
    fn new(accept_gap: Option<Lsn>) -> Self {
        Self::promising(Guarantee::AtLeastOnce, accept_gap)
    }

    fn promising(guarantee: Guarantee, accept_gap: Option<Lsn>) -> Self {
        let config = Config {
            name: "orders".into(),
            instance: "0000000a".into(),
            reads: relay_core::session::Reads::Log,
            guarantee,
            commit_interval_ms: 100,
            slot: "relay_orders".into(),
            publication: "relay_orders".into(),
            may_create: true,
            is_durable: true,
            snapshot: None,
            accept_gap,
            checkpoint_interval_ms: 1_000,
            idle_checkpoint_interval_ms: 10_000,
            config_fingerprint: "c".into(),
            relay_version: "0".into(),
            seed: 7,
        };
        let acks = Acks::new(64);
        let window = Window::new(Arc::clone(&acks), Limits { bytes: 1_000, events: 64 });
        let server = Server {
            system_id: "7001".into(),
            timeline: 1,
            switch_points: Vec::new(),
            database: "shop".into(),
            wal_end: Lsn(1_000),
            is_standby: false,
            snapshot: None,
            slot: Some(Slot { unfit: None, is_lost: false, confirmed_flush: Lsn(100), is_active: false }),
            publication: Some("p".into()),
        };
        Self { session: Session::new(config, window), acks, server, now_ms: 0, stored: Vec::new() }
    }

    fn orders(&mut self) -> Vec<Order> {
        self.session.orders().collect()
    }

    fn tick(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        self.session.advance(|_| {});
        self.session.tick(self.now_ms, 0);
    }

    /// Answers what was ordered as a healthy world does, until nothing is ordered; returns the notes.
    fn settle(&mut self) -> Vec<Note> {
        let mut notes = Vec::new();
        loop {
            let orders = self.orders();
            if orders.is_empty() {
                return notes;
            }
            for order in orders {
                match order {
                    Order::Note(note) => notes.push(note),
                    other => self.answer(other),
                }
            }
        }
    }

    fn answer(&mut self, order: Order) {
        let input = match order {
            Order::Inspect => Input::Inspected(Ok(self.server.clone())),
            Order::ReadCheckpoint => Input::CheckpointRead(Ok(Reading::of(self.stored.clone()))),
            Order::Store(record) => {
                self.stored.push(*record);
                Input::Stored(Ok(()))
            }
            Order::CreatePublication => Input::PublicationReady(Ok(())),
            Order::CreateSlot { .. } => Input::SlotReady(Ok(None)),
            Order::Hold(_) => Input::Held(Ok(())),
            Order::Renew => Input::Renewed(Ok(())),
            Order::Fence => Input::CheckpointRead(Ok(Reading::of(self.stored.clone()))),
            Order::Abort => Input::Aborted(Ok(())),
            Order::Replay => return,
            Order::Retire(_) | Order::Disconnect | Order::Purge(_) | Order::Note(_) => return,
            Order::ListTables(_) | Order::Look { .. } | Order::ReadChunk(_) | Order::Mark(_) => {
                unreachable!("nothing is captured")
            }
        };
        self.session.input(input);
    }

    /// Settles, passing the time, until the order comes that the test wants to answer itself.
    fn until(&mut self, wanted: fn(&Order) -> bool) -> Order {
        for _ in 0..1_000 {
            for order in self.orders() {
                if wanted(&order) {
                    return order;
                }
                self.answer(order);
            }
            self.tick(50);
        }
        panic!("the order never comes");
    }

    fn streaming() -> Self {
        let mut desk = Self::new(None);
        desk.settle();
        assert!(desk.session.is_streaming());
        desk
    }

    /// The same in exactly-once, after a first start in at-least-once.
    fn streaming_exactly() -> Self {
        let stored = Self::streaming().stored;
        let mut desk = Self { stored, ..Self::promising(Guarantee::ExactlyOnce, None) };
        desk.settle();
        assert!(desk.session.is_streaming());
        desk
    }

    /// A transaction with so many events goes by; the tickets given.
    fn transaction(&mut self, commit_lsn: u64, events: u64) -> Vec<Ticket> {
        self.session.begin(Lsn(commit_lsn), 0).expect("in order");
        let tickets = (0..events)
            .map(|_| {
                let ticket = self.session.next_ticket();
                self.session.sent(10);
                self.session.passed();
                ticket
            })
            .collect();
        self.session.commit(Lsn(commit_lsn), Lsn(commit_lsn + 5)).expect("in order");
        tickets
    }

    fn fail(&mut self, ticket: Ticket, kind: FailureKind) {
        self.acks.failed(ticket, failed(kind));
        self.session.advance(|_| {});
    }
}

#[test]
fn an_accepted_gap_survives_a_claim_that_fails() {
    let mut desk = Desk::streaming();
    let record = desk.stored.pop().expect("the claim");
    let mut desk = Desk { stored: vec![record], ..Desk::new(Some(Lsn(500))) };
    desk.server.slot = Some(Slot { unfit: None, is_lost: false, confirmed_flush: Lsn(500), is_active: false });
    desk.until(|order| matches!(order, Order::Store(_)));
    desk.session.input(Input::Stored(Err(failed(FailureKind::Transient))));
    let Order::Store(record) = desk.until(|order| matches!(order, Order::Store(_))) else { unreachable!() };
    assert_eq!((record.end_lsn, record.accepted_gaps.len()), (Some(Lsn(500)), 1));
    desk.session.input(Input::Stored(Ok(())));
    assert!(desk.session.is_streaming());
    // Used once it is durable, and only once.
    desk.server.slot = Some(Slot { unfit: None, is_lost: false, confirmed_flush: Lsn(600), is_active: false });
    desk.session.input(Input::Lost(fault(Kind::SourceLost)));
    desk.until(|order| matches!(order, Order::Note(Note::Fault(Fault { kind: Kind::Gap, .. }, _))));
}

#[test]
fn a_server_that_shuts_down_is_released_at_once() {
    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 1);
    desk.session.keepalive(Lsn(300), false);
    desk.acks.done(tickets[0]);
    // Idle since then: the last keepalive names nothing new, and wants an answer.
    desk.tick(20);
    desk.session.keepalive(Lsn(300), true);
    desk.tick(20);
    desk.settle();
    assert_eq!(desk.session.confirmation().flushed, Lsn(300), "within two turns, not after the idle interval");
}

#[test]
fn the_server_is_compared_again_once_the_slot_is_held() {
    let mut desk = Desk::streaming();
    let mut desk = Desk { stored: desk.stored.split_off(0), ..Desk::new(None) };
    desk.until(|order| matches!(order, Order::Hold(_)));
    // The name leads to another server now.
    desk.server.system_id = "6666".into();
    desk.session.input(Input::Held(Ok(())));
    desk.until(|order| matches!(order, Order::Note(Note::Fault(Fault { kind: Kind::CheckpointForeign, .. }, _))));
    assert_eq!(desk.stored.len(), 1, "nothing was claimed");
}

#[test]
fn the_answer_to_an_old_store_is_not_the_claims() {
    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 1);
    desk.acks.done(tickets[0]);
    desk.until(|order| matches!(order, Order::Store(_)));
    // That store hangs. The stream is stopped and started anew meanwhile.
    desk.session.input(Input::Stop(fault(Kind::Unrouted)));
    for _ in 0..2_000 {
        desk.tick(50);
        for order in desk.orders() {
            assert!(!matches!(order, Order::Store(_)), "one store at a time");
            desk.answer(order);
        }
    }
    assert!(!desk.session.is_streaming(), "the claim is not durable");
    desk.session.input(Input::Stored(Ok(())));
    assert!(!desk.session.is_streaming(), "that was the old store's answer");
    let notes = desk.settle();
    assert!(matches!(notes[..], [Note::Streaming { epoch: 2, .. }]), "{notes:?}");
}

#[test]
fn what_was_published_before_a_stop_is_stored() {
    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 3);
    tickets.iter().for_each(|&ticket| desk.acks.done(ticket));
    desk.tick(10);
    desk.session.input(Input::Stop(fault(Kind::Unrouted)));
    desk.tick(10);
    desk.settle();
    assert_eq!(desk.session.state(), State::Failed);
    assert_eq!(desk.stored.last().and_then(|record| record.end_lsn), Some(Lsn(205)), "each look would send it again");
}

#[test]
fn a_missing_slot_is_looked_for_twice() {
    let mut desk = Desk::streaming();
    let mut desk = Desk { stored: desk.stored.split_off(0), ..Desk::new(None) };
    let slot = desk.server.slot.take();
    desk.until(|order| matches!(order, Order::ReadCheckpoint));
    // Another instance's first start comes between.
    desk.server.slot = slot;
    desk.session.input(Input::CheckpointRead(Ok(Reading::of(desk.stored.clone()))));
    desk.settle();
    assert!(desk.session.is_streaming());
}

#[test]
fn isolation_sends_one_at_a_time_until_it_is_durable_and_stops_at_a_refused_dlq_record() {
    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 3);
    desk.fail(tickets[1], FailureKind::Rejected);
    desk.until(|order| matches!(order, Order::Note(Note::Resumed(_))));
    for _ in 0..2 {
        // The event is refused alone; then, as its own dlq record, again, after its transaction has been read to the end.
        desk.session.begin(Lsn(200), 0).expect("in order");
        let admission = desk.session.admit();
        assert!(matches!(admission, Admission::Fresh(_) | Admission::Condemned(..)));
        assert!(desk.session.has_room(10));
        let ticket = desk.session.next_ticket();
        desk.session.sent(10);
        desk.session.passed();
        assert!(!desk.session.has_room(10), "one at a time");
        if matches!(admission, Admission::Condemned(..)) {
            (1..3).for_each(|_| desk.session.passed());
            desk.session.commit(Lsn(200), Lsn(205)).expect("in order");
            desk.fail(ticket, FailureKind::Rejected);
            assert_eq!(desk.session.fault().map(|fault| fault.kind), Some(Kind::Poison));
            return;
        }
        desk.fail(ticket, FailureKind::Rejected);
        desk.until(|order| matches!(order, Order::Note(Note::Resumed(_))));
    }
    panic!("the culprit was not found");
}

#[test]
fn a_fatal_failure_behind_another_still_replaces_the_client() {
    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 2);
    desk.acks.failed(tickets[0], failed(FailureKind::Transient));
    desk.acks.failed(tickets[1], failed(FailureKind::Fatal));
    desk.until(|order| matches!(order, Order::Renew));
    desk.session.input(Input::Renewed(Err("no broker".into())));
    desk.tick(10);
    assert!(!desk.orders().contains(&Order::Renew), "not again at once");
}

#[test]
fn failing_deliveries_are_tried_again_ever_later() {
    let mut desk = Desk::streaming();
    let mut waits = Vec::new();
    for _ in 0..6 {
        let tickets = desk.transaction(200, 1);
        let from_ms = desk.now_ms;
        desk.fail(tickets[0], FailureKind::Denied);
        assert_eq!(desk.session.fault().map(|fault| fault.kind), Some(Kind::SinkPermission));
        desk.until(|order| matches!(order, Order::Hold(_)));
        waits.push(desk.now_ms - from_ms);
        desk.session.input(Input::Held(Ok(())));
        desk.settle();
        assert!(desk.session.is_streaming());
    }
    assert!(waits[5] > 4 * waits[0] && waits[5] > 2_000, "{waits:?}");
}

#[test]
fn nothing_is_confirmed_of_an_older_life() {
    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 1);
    desk.acks.done(tickets[0]);
    desk.until(|order| matches!(order, Order::Store(_)));
    desk.session.input(Input::Stored(Ok(())));
    assert_eq!(desk.session.confirmation().flushed, Lsn(205));
    // Another instance has the slot for a while.
    desk.session.input(Input::Lost(fault(Kind::SourceLost)));
    desk.until(|order| matches!(order, Order::Hold(_)));
    desk.session.input(Input::Held(Err(Busy::Other(fault(Kind::SlotBusy)))));
    desk.until(|order| matches!(order, Order::Hold(_)));
    desk.session.input(Input::Held(Ok(())));
    desk.session.keepalive(Lsn(900), true);
    assert_eq!(desk.session.confirmation().flushed, Lsn::ZERO, "the slot is only held");
    desk.session.input(Input::Drain { deadline_ms: desk.now_ms + 5_000, read_to: None });
    assert!(desk.session.is_ended());
    assert_eq!(desk.session.confirmation().flushed, Lsn::ZERO, "and was never ours to move");
    desk.session.input(Input::Stop(fault(Kind::Unrouted)));
    assert!(desk.session.is_ended(), "an end is an end");
}

#[test]
fn a_claim_on_its_way_to_the_store_is_noticed_after_a_reconnect() {
    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 1);
    desk.acks.done(tickets[0]);
    desk.session.input(Input::Lost(fault(Kind::SourceLost)));
    desk.until(|order| matches!(order, Order::Note(Note::Resumed(_))));
    let mut foreign = desk.stored[0].clone();
    foreign.epoch += 1;
    foreign.instance = "0000000b".into();
    desk.stored.push(foreign);
    desk.session.keepalive(Lsn(300), true);
    desk.until(|order| matches!(order, Order::ReadCheckpoint));
    assert_eq!(desk.session.confirmation().flushed, Lsn::ZERO, "not before the epoch is known to be ours");
    desk.session.input(Input::CheckpointRead(Ok(Reading::of(desk.stored.clone()))));
    let notes: Vec<Note> = std::iter::repeat_with(|| {
        desk.tick(100);
        desk.settle()
    })
    .take(50)
    .flatten()
    .collect();
    assert!(notes.iter().any(|note| matches!(note, Note::Streaming { epoch: 3, .. })), "{notes:?}");
}

#[test]
fn a_silent_server_and_a_rewind_purge_as_far_as_they_must() {
    let mut desk = Desk::streaming();
    desk.transaction(200, 1);
    desk.session.input(Input::Lost(fault(Kind::SourceSilent)));
    let orders: Vec<Order> = desk.orders().into_iter().filter(|order| !matches!(order, Order::Note(_))).collect();
    let silent = [Order::Disconnect, Order::Purge(PurgeScope::Queued), Order::Purge(PurgeScope::QueuedAndInFlight)];
    assert_eq!(orders, silent, "nothing may arrive behind a successor's events");

    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 2);
    desk.fail(tickets[0], FailureKind::Transient);
    let orders: Vec<Order> = desk.orders().into_iter().filter(|order| !matches!(order, Order::Note(_))).collect();
    assert_eq!(orders, [Order::Purge(PurgeScope::Queued)], "the slot is kept while something is on the wire");
    desk.session.tick(desk.now_ms, 1);
    assert_eq!(desk.orders(), []);
    desk.session.tick(desk.now_ms, 0);
    assert_eq!(desk.orders(), [Order::Disconnect]);
}

/// librdkafka has lost some of its records: neither they nor their failures come, whatever is purged.
#[test]
fn a_client_that_does_not_answer_for_its_records_is_replaced() {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let mut desk = if guarantee == Guarantee::ExactlyOnce { Desk::streaming_exactly() } else { Desk::streaming() };
        let tickets = desk.transaction(200, 2);
        desk.fail(tickets[0], FailureKind::Transient);
        let mut orders = Vec::new();
        let waits = |desk: &mut Desk, ms: u64, orders: &mut Vec<Order>| {
            for _ in 0..ms / 50 {
                desk.now_ms += 50;
                desk.session.tick(desk.now_ms, 1);
                orders.extend(desk.orders().into_iter().filter(|order| !matches!(order, Order::Note(_))));
            }
        };
        let patience = if guarantee == Guarantee::ExactlyOnce { 15_000 } else { 60_000 };
        waits(&mut desk, patience + 100, &mut orders);
        assert_eq!(orders, [PurgeScope::Queued, PurgeScope::QueuedAndInFlight].map(Order::Purge), "{guarantee:?}");
        orders.clear();
        // A process that stood still gives its threads their time: what they have still to say may be a success.
        desk.now_ms += 60_000;
        waits(&mut desk, 9_900, &mut orders);
        assert_eq!(orders, [], "{guarantee:?}");
        waits(&mut desk, 1_000, &mut orders);
        assert_eq!(orders, [Order::Renew], "{guarantee:?}");
        desk.session.input(Input::Renewed(Ok(())));
        desk.until(|order| matches!(order, Order::Note(Note::Resumed(_))));
    }
}

#[test]
fn the_first_start_leaves_a_mark_before_it_creates_anything() {
    let mut desk = Desk::new(None);
    desk.server.slot = None;
    desk.server.publication = None;
    let Order::Store(mark) = desk.until(|order| matches!(order, Order::Store(_))) else { unreachable!() };
    assert_eq!((mark.state, mark.epoch, mark.end_lsn), (RecordState::Bootstrapping, 0, None));
    assert_eq!(desk.orders(), [], "nothing is created before the mark is durable");
}

/// Half of a transaction is durable, and lost with the failover: a new history may even give its position out again.
#[test]
fn half_a_transaction_that_the_new_primary_does_not_have_is_no_place_to_resume_at() {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let mut desk = if guarantee == Guarantee::ExactlyOnce { Desk::streaming_exactly() } else { Desk::streaming() };
        desk.session.begin(Lsn(200), 0).expect("in order");
        let ticket = desk.session.next_ticket();
        desk.session.sent(10);
        desk.session.passed();
        desk.acks.done(ticket);
        desk.tick(1_000);
        let Order::Store(record) = desk.until(|order| matches!(order, Order::Store(_))) else { unreachable!() };
        assert_eq!((record.commit_lsn, record.seq), (Some(Lsn(200)), Some(0)));
        desk.session.input(Input::Stored(Ok(())));
        // The next event fails while the primary does, too: back to the half of which readers know.
        let ticket = desk.session.next_ticket();
        desk.session.sent(10);
        desk.session.passed();
        desk.fail(ticket, FailureKind::Transient);
        desk.session.input(Input::Lost(fault(Kind::SourceLost)));
        desk.server.timeline = 2;
        desk.server.switch_points = vec![(1, Lsn(150))];
        desk.until(|order| {
            matches!(order, Order::Note(Note::Fault(Fault { kind: Kind::TimelineDiverged, .. }, _) | Note::Resumed(_)))
        });
        assert_eq!(desk.session.fault().map(|fault| fault.kind), Some(Kind::TimelineDiverged));
    }
}

/// A commit of which nobody knows what became is no matter of the life that begins when somebody else has had the slot.
#[test]
fn a_doubt_ends_with_the_life_that_had_it() {
    let mut desk = Desk::streaming_exactly();
    let tickets = desk.transaction(200, 1);
    desk.acks.done(tickets[0]);
    desk.until(|order| matches!(order, Order::Store(_)));
    desk.session.input(Input::Stored(Err(failed(FailureKind::Indefinite))));
    desk.until(|order| matches!(order, Order::Hold(_)));
    desk.session.input(Input::Held(Err(Busy::Other(fault(Kind::SlotBusy)))));
    desk.until(|order| matches!(order, Order::Hold(_)));
    desk.session.input(Input::Held(Ok(())));
    let note = desk.until(|order| matches!(order, Order::Note(Note::Doubt | Note::Streaming { .. })));
    assert!(matches!(note, Order::Note(Note::Streaming { .. })), "{note:?}");
}

/// `only` drains without a deadline of its own; a signal brings one.
#[test]
fn the_earlier_of_two_deadlines_counts() {
    let mut desk = Desk::streaming();
    desk.transaction(200, 1);
    desk.session.input(Input::Drain { deadline_ms: u64::MAX, read_to: None });
    desk.session.input(Input::Drain { deadline_ms: desk.now_ms + 2_000, read_to: None });
    desk.tick(2_000);
    assert!(desk.session.is_ended());
}

/// The rest of a change is poison, or its topic is missing: what was committed before it in the source is published all the same.
#[test]
fn a_change_that_stays_in_part_holds_nothing_back_that_comes_before_it() {
    for stops in [false, true] {
        let mut desk = Desk::streaming_exactly();
        // A BEGIN is sent, and the change behind it cannot be.
        let begin = |desk: &mut Desk| {
            let ticket = desk.session.next_ticket();
            desk.session.sent_beside(10);
            desk.acks.done(ticket);
        };
        let tickets = desk.transaction(200, 1);
        desk.acks.done(tickets[0]);
        desk.session.begin(Lsn(300), 0).expect("in order");
        begin(&mut desk);
        if stops {
            desk.session.input(Input::Stop(fault(Kind::Unrouted)));
        }
        desk.until(|order| matches!(order, Order::Abort));
        desk.session.input(Input::Aborted(Ok(())));
        // This driver keeps nothing: all of it comes again by another connection.
        desk.until(|order| matches!(order, Order::Note(Note::Resumed(_))));
        let tickets = desk.transaction(200, 1);
        desk.acks.done(tickets[0]);
        desk.session.begin(Lsn(300), 0).expect("in order");
        assert!(!desk.session.has_room(10), "a commit comes first");
        let Order::Store(record) = desk.until(|order| matches!(order, Order::Store(_))) else { unreachable!() };
        assert_eq!((record.end_lsn, record.commit_lsn), (Some(Lsn(205)), None));
        desk.session.input(Input::Stored(Ok(())));
        assert!(desk.session.has_room(10));
        begin(&mut desk);
        desk.tick(10);
        if stops {
            desk.session.input(Input::Stop(fault(Kind::Unrouted)));
            assert_eq!(desk.session.state(), State::Failed, "there is nothing more to commit");
        }
        (0..100).for_each(|_| desk.tick(50));
        let ends = |order: &Order| matches!(order, Order::Note(Note::Rewinding(_)) | Order::Store(_));
        assert!(stops || !desk.orders().iter().any(ends), "once is enough");
    }
}

/// Another instance had the slot, claimed an epoch and went, while this one waited to take a new client.
#[test]
fn a_claim_of_another_instance_is_noticed_behind_the_fence() {
    let mut desk = Desk::streaming_exactly();
    let tickets = desk.transaction(200, 1);
    desk.fail(tickets[0], FailureKind::Fatal);
    desk.until(|order| matches!(order, Order::Fence));
    let mut foreign = desk.stored.last().expect("our claim").clone();
    foreign.epoch += 1;
    foreign.instance = "0000000b".into();
    desk.stored.push(foreign.clone());
    desk.session.input(Input::CheckpointRead(Ok(Reading::of(desk.stored.clone()))));
    let note = desk.until(|order| matches!(order, Order::Note(Note::Streaming { .. } | Note::Resumed(_))));
    assert!(matches!(note, Order::Note(Note::Streaming { epoch, .. }) if epoch > foreign.epoch), "{note:?}");
}

/// The last acknowledgement comes between the look at them and the count of what is outstanding.
#[test]
fn what_arrives_at_the_end_of_a_rewind_does_not_come_again() {
    let mut desk = Desk::streaming();
    let tickets = desk.transaction(200, 2);
    desk.fail(tickets[1], FailureKind::Transient);
    desk.acks.done(tickets[0]);
    desk.session.tick(desk.now_ms, 0);
    desk.until(|order| matches!(order, Order::Note(Note::Resumed(_))));
    desk.session.begin(Lsn(200), 0).expect("in order");
    assert_eq!(desk.session.admit(), Admission::Covered);
}

/// What is in flight outlives its connection; the frames that it was read from do not.
#[test]
fn frames_of_a_lost_connection_are_asked_for_again() {
    let mut desk = Desk::streaming_exactly();
    let tickets = desk.transaction(200, 1);
    assert!(desk.session.kept(10));
    desk.session.input(Input::Lost(fault(Kind::SourceLost)));
    desk.until(|order| matches!(order, Order::Note(Note::Resumed(_))));
    desk.fail(tickets[0], FailureKind::Transient);
    let order = desk.until(|order| matches!(order, Order::Replay | Order::Hold(_)));
    assert!(matches!(order, Order::Hold(start) if start < Lsn(200)), "{order:?}");
}

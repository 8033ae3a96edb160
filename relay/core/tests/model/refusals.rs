//! Which starts polling refuses, and that a refused one stores, creates and publishes nothing.

use relay_core::checkpoint::{LogPoll, Mode, PollPosition, Reading, Record};
use relay_core::session::{Config, Fault, Input, Note, Order, Reads, Server, Session, Slot};
use relay_core::window::{Limits, Window};
use relay_core::{Acks, Kind, Lsn, Snapshot};

const POLLS: Reads = Reads::Poll { has_ticks: true, has_claims: false, ends_in_log: false };
const CLAIMS: Reads = Reads::Poll { has_ticks: true, has_claims: true, ends_in_log: false };
const TO_LOG: Reads = Reads::Poll { has_ticks: true, has_claims: false, ends_in_log: true };
const CLAIMS_TO_LOG: Reads = Reads::Poll { has_ticks: true, has_claims: true, ends_in_log: true };

fn snapshot(text: &str) -> Snapshot {
    text.parse().expect("a snapshot")
}

fn server() -> Server {
    Server {
        system_id: "7001".into(),
        timeline: 1,
        switch_points: Vec::new(),
        database: "shop".into(),
        wal_end: Lsn(9_000),
        is_standby: false,
        snapshot: Some(snapshot("40:50:40,45")),
        slot: None,
        publication: None,
    }
}

fn slot(is_active: bool) -> Option<Slot> {
    Some(Slot { unfit: None, is_lost: false, confirmed_flush: Lsn(2_000), is_active })
}

fn config() -> Config {
    Config {
        name: "orders".into(),
        instance: "0000000a".into(),
        reads: POLLS,
        guarantee: relay_core::checkpoint::Guarantee::AtLeastOnce,
        commit_interval_ms: 100,
        slot: "relay_orders".into(),
        publication: "relay_orders".into(),
        may_create: true,
        is_durable: true,
        snapshot: None,
        accept_gap: None,
        checkpoint_interval_ms: 1_000,
        idle_checkpoint_interval_ms: 10_000,
        config_fingerprint: "c".into(),
        relay_version: "0".into(),
        seed: 7,
    }
}

/// A session whose orders a healthy world carries out.
struct Desk {
    session: Session,
    server: Server,
    stored: Vec<Record>,
    orders: Vec<Order>,
    now_ms: u64,
}

impl Desk {
    fn new(reads: Reads, stored: Option<Record>, server: Server) -> Self {
        Self::with(Config { reads, ..config() }, stored, server)
    }

    fn with(config: Config, stored: Option<Record>, server: Server) -> Self {
        let window = Window::new(Acks::new(64), Limits { bytes: 1_000, events: 64 });
        let stored = stored.into_iter().collect();
        Self { session: Session::new(config, window), server, stored, orders: Vec::new(), now_ms: 0 }
    }

    /// Runs for a second, which is enough for a start and too short for a second look.
    fn run(&mut self) -> &mut Self {
        for _ in 0..100 {
            self.now_ms += 10;
            self.session.advance(|_| {});
            self.session.tick(self.now_ms, 0);
            for order in self.session.orders().collect::<Vec<_>>() {
                self.orders.push(order.clone());
                let input = match order {
                    Order::Inspect => Input::Inspected(Ok(self.server.clone())),
                    Order::ReadCheckpoint => Input::CheckpointRead(Ok(Reading::of(self.stored.clone()))),
                    Order::Store(record) => {
                        self.stored.push(*record);
                        Input::Stored(Ok(()))
                    }
                    Order::Hold(_) => Input::Held(Ok(())),
                    _ => continue,
                };
                self.session.input(input);
            }
        }
        self
    }

    /// Why it does not go on; by then it must not have done anything.
    fn refusal(&mut self) -> Kind {
        let count = self.stored.len();
        self.run();
        assert_eq!(self.stored.len(), count, "a refused start stores nothing");
        let acts = |order: &&Order| matches!(order, Order::CreatePublication | Order::CreateSlot { .. });
        assert_eq!(self.orders.iter().find(acts), None, "a refused start creates nothing");
        assert!(!self.session.is_streaming());
        self.session.fault().expect("a fault").kind
    }

    fn is_streaming(&mut self) -> bool {
        self.run().session.is_streaming()
    }
}

/// A record that says: published is what the first snapshot sees, and of the second the rows up to 7 of one table.
fn record(before: &str, tick: &str) -> Record {
    let mut desk = Desk::new(POLLS, None, server());
    assert!(desk.is_streaming());
    let seq = std::iter::once(("public.outbox".to_owned(), 7)).filter(|_| before != tick).collect();
    let poll = Some(PollPosition { snapshot: snapshot(before), tick: snapshot(tick), seq });
    Record { poll, end_lsn: Some(Lsn(5_000)), ..desk.stored[0].clone() }
}

fn log_record(pair: Option<&str>) -> Record {
    let log_poll = pair.map(|seen| LogPoll { snapshot: snapshot(seen), lsn: Lsn(4_000) });
    let slot = Some("relay_orders".into());
    Record { mode: Mode::Log.name().into(), poll: None, slot, log_poll, ..record("30:30:", "30:30:") }
}

#[test]
fn a_stored_tick_starts_on_its_own_server_alone() {
    let stored = || Some(record("20:30:25", "30:50:40,45"));
    assert!(Desk::new(POLLS, stored(), server()).is_streaming());
    let cases = [
        (Server { system_id: "7002".into(), ..server() }, Kind::CheckpointForeign),
        (Server { database: "shop2".into(), ..server() }, Kind::CheckpointForeign),
        (Server { wal_end: Lsn(4_999), ..server() }, Kind::CheckpointAhead),
        // Restored, and written to ever since: its WAL is longer than the old one's, its transaction ids are given out again.
        (Server { snapshot: Some(snapshot("49:49:")), ..server() }, Kind::CheckpointAhead),
        // Promoted from a backup that ended before what was published.
        (Server { timeline: 2, switch_points: vec![(1, Lsn(4_999))], ..server() }, Kind::TimelineDiverged),
        (Server { timeline: 2, switch_points: Vec::new(), ..server() }, Kind::TimelineDiverged),
        (Server { is_standby: true, ..server() }, Kind::SourceUnavailable),
    ];
    for (server, kind) in cases {
        assert_eq!(Desk::new(POLLS, stored(), server.clone()).refusal(), kind, "{server:?}");
    }
    let promoted = Server { timeline: 2, switch_points: vec![(1, Lsn(5_000))], ..server() };
    assert!(Desk::new(POLLS, stored(), promoted).is_streaming());
}

#[test]
fn polling_does_not_resume_on_a_restored_server() {
    let cases = [
        (Server { system_id: "7002".into(), ..server() }, Kind::CheckpointForeign),
        (Server { snapshot: Some(snapshot("49:49:")), ..server() }, Kind::CheckpointAhead),
    ];
    for (restored, kind) in cases {
        let mut desk =
            Desk::new(POLLS, Some(record("50:50:", "50:50:")), Server { snapshot: Some(snapshot("51:51:")), ..server() });
        assert!(desk.is_streaming());
        desk.server = restored;
        desk.session.input(Input::Lost(Fault { kind: Kind::SourceLost, message: "lost".into() }));
        assert_eq!(desk.refusal(), kind);
    }
}

/// The snapshot of a new slot sees a commit as soon as its record is written; queries see it later, behind a synchronous standby much
/// later. A last tick that a crash cut short, polled on without the slot, must not be read before its rows are visible.
#[test]
fn a_tick_waits_until_queries_see_what_it_sees() {
    let mut desk = Desk::new(POLLS, Some(record("20:30:25", "40:50:40")), server());
    assert_eq!(desk.refusal(), Kind::SourceUnavailable);
    desk.server.snapshot = Some(snapshot("40:50:40"));
    assert!(desk.is_streaming());
}

#[test]
fn an_accepted_restore_goes_on_from_what_the_server_sees() {
    let restored = || Server { snapshot: Some(snapshot("44:45:44")), ..server() };
    let stored = || Some(record("20:30:25", "30:50:40,45"));
    let start = |accept_gap| Desk::with(Config { accept_gap, ..config() }, stored(), restored());
    let mut desk = start(None);
    assert_eq!(desk.refusal(), Kind::CheckpointAhead);
    let message = desk.session.fault().map(|fault| fault.message.clone()).unwrap_or_default();
    assert!(message.ends_with("the LSN to accept is 0/1388"), "{message}");
    assert_eq!(start(Some(Lsn(5_001))).refusal(), Kind::CheckpointAhead);
    let mut desk = start(Some(Lsn(5_000)));
    assert!(desk.is_streaming());
    let claimed = desk.stored.last().expect("a claim");
    assert_eq!(claimed.poll, Some(PollPosition::at(snapshot("44:45:44"))));
    assert_eq!(claimed.accepted_gaps.len(), 1);
}

#[test]
fn a_pipeline_with_claims_does_not_switch() {
    assert_eq!(Desk::new(CLAIMS, Some(log_record(Some("30:30:"))), server()).refusal(), Kind::SwitchRefused);
    assert_eq!(Desk::new(CLAIMS_TO_LOG, Some(record("30:30:", "30:30:")), server()).refusal(), Kind::SwitchRefused);
    assert!(Desk::new(CLAIMS, Some(record("30:30:", "30:30:")), server()).is_streaming());
}

#[test]
fn the_switch_to_polling_needs_a_pair_and_a_log_that_nobody_reads() {
    assert_eq!(Desk::new(POLLS, Some(log_record(None)), server()).refusal(), Kind::SwitchRefused);
    let busy = Server { slot: slot(true), ..server() };
    assert_eq!(Desk::new(POLLS, Some(log_record(Some("30:30:"))), busy.clone()).refusal(), Kind::SlotBusy);
    // The instance that reads the log knows nothing of the polling lock: it must not be shut out by one that only looks.
    let exactly = Config { guarantee: relay_core::checkpoint::Guarantee::ExactlyOnce, ..config() };
    let mut desk = Desk::with(exactly, Some(log_record(Some("30:30:"))), busy);
    assert_eq!(desk.refusal(), Kind::SlotBusy);
    assert!(!desk.orders.iter().any(|order| matches!(order, Order::Hold(_) | Order::Renew | Order::Fence)), "{:?}", desk.orders);
    let mut desk = Desk::new(POLLS, Some(log_record(Some("30:40:35"))), Server { slot: slot(false), ..server() });
    assert!(desk.is_streaming());
    assert!(desk.orders.iter().any(|order| matches!(order, Order::Note(Note::FromLog(_)))));
    assert_eq!(desk.stored.last().and_then(|record| record.poll.clone()), Some(PollPosition::at(snapshot("30:40:35"))));
}

#[test]
fn the_switch_to_the_log_makes_its_own_slot_or_none() {
    let stored = |slot: Option<&str>| Some(Record { slot: slot.map(Into::into), ..record("30:30:", "30:30:") });
    let ours = Some("relay_orders");
    assert_eq!(Desk::new(TO_LOG, stored(None), Server { slot: slot(false), ..server() }).refusal(), Kind::SwitchRefused);
    assert_eq!(Desk::new(TO_LOG, stored(ours), Server { slot: slot(true), ..server() }).refusal(), Kind::SlotBusy);
    let config = Config { may_create: false, reads: TO_LOG, ..config() };
    assert_eq!(Desk::with(config, stored(None), server()).refusal(), Kind::SwitchRefused);
    // Before anything is created, the record says whose slot it will be.
    for (slot, name) in [(None, None), (slot(false), ours)] {
        let mut desk = Desk::new(TO_LOG, stored(name), Server { slot, ..server() });
        desk.run();
        assert_eq!(desk.stored.last().and_then(|record| record.slot.as_deref()), ours);
        let place = |wanted: fn(&Order) -> bool| desk.orders.iter().position(wanted);
        let (store, create) =
            (place(|order| matches!(order, Order::Store(_))), place(|order| *order == Order::CreatePublication));
        assert!(store.is_some() && store < create);
    }
}

//! The window against a naive model: whatever begins, is sent, acknowledged or dropped, both name the same frontier.

use proptest::collection::vec;
use proptest::prelude::*;
use relay_core::window::{Frontier, Limits, Window};
use relay_core::{Acks, Lsn, Position, Ticket};
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Sent { gap: u64, bytes: usize },
    Commit,
    Ack(usize),
    Advance,
    Keepalive,
    Rewind,
}

/// Everything not yet delivered, event by event.
#[derive(Debug, Default)]
struct Model {
    transactions: Vec<Transaction>,
    frontier: Frontier,
    delivered: u64,
}

#[derive(Debug)]
struct Transaction {
    commit_lsn: Lsn,
    end_lsn: Option<Lsn>,
    events: Vec<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    ticket: usize,
    seq: u64,
    bytes: u64,
    is_acked: bool,
    /// Counted as contiguous by the last advance.
    is_behind: bool,
}

const LIMITS: Limits = Limits { bytes: 200, events: 70 };

// === impl Model ===

impl Model {
    fn events(&self) -> impl Iterator<Item = &Sent> {
        self.transactions.iter().flat_map(|transaction| &transaction.events)
    }

    fn in_flight(&self) -> impl Iterator<Item = &Sent> {
        self.events().filter(|sent| !sent.is_behind)
    }

    fn is_open(&self) -> bool {
        self.transactions.last().is_some_and(|transaction| transaction.end_lsn.is_none())
    }

    fn advance(&mut self) {
        let mut is_contiguous = true;
        let mut last = None;
        for transaction in &mut self.transactions {
            for sent in &mut transaction.events {
                is_contiguous &= sent.is_acked;
                if is_contiguous && !sent.is_behind {
                    sent.is_behind = true;
                    last = Some((transaction.commit_lsn, sent.seq));
                }
            }
        }
        while let Some(front) = self.transactions.first()
            && let Some(end_lsn) = front.end_lsn
            && front.events.iter().all(|sent| sent.is_behind)
        {
            self.frontier = Frontier { end_lsn, inside: None };
            self.delivered += front.events.len() as u64;
            self.transactions.remove(0);
        }
        if let Some((commit_lsn, seq)) = last
            && self.transactions.first().is_some_and(|front| front.commit_lsn == commit_lsn)
        {
            self.frontier.inside = Some(Position { commit_lsn, seq });
        }
    }

    fn position_of(&self, ticket: usize) -> Option<Position> {
        let holds = |transaction: &&Transaction| transaction.events.iter().any(|sent| sent.ticket == ticket && !sent.is_behind);
        let transaction = self.transactions.iter().find(holds)?;
        let sent = transaction.events.iter().find(|sent| sent.ticket == ticket)?;
        Some(Position { commit_lsn: transaction.commit_lsn, seq: sent.seq })
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Begin),
        9 => (0..3u64, 0..60usize).prop_map(|(gap, bytes)| Step::Sent { gap, bytes }),
        4 => Just(Step::Commit),
        9 => any::<usize>().prop_map(Step::Ack),
        6 => Just(Step::Advance),
        2 => Just(Step::Keepalive),
        1 => Just(Step::Rewind),
    ];
    vec(step, 0..300)
}

fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    // Ring positions come round many times: the capacity is 128.
    let acks = Acks::new(LIMITS.events);
    let mut window = Window::new(Arc::clone(&acks), LIMITS);
    let mut model = Model { frontier: Frontier { end_lsn: Lsn(10), inside: None }, ..Model::default() };
    window.start_at(model.frontier);
    let (mut lsn, mut seq, mut next, mut delivered) = (10, 0, 0, 0);
    for step in steps {
        lsn += 1;
        match step {
            Step::Begin if !model.is_open() => {
                seq = 0;
                window.begin(Lsn(lsn), 0);
                model.transactions.push(Transaction { commit_lsn: Lsn(lsn), end_lsn: None, events: Vec::new() });
                lsn += 1;
            }
            Step::Sent { gap, bytes } if model.is_open() => {
                let in_flight: u64 = model.in_flight().map(|sent| sent.bytes).sum();
                let count = model.in_flight().count();
                let has_room = count == 0 || (count < LIMITS.events && in_flight + bytes as u64 <= LIMITS.bytes);
                prop_assert_eq!(window.has_room(bytes), has_room);
                if has_room {
                    seq += gap;
                    prop_assert_eq!(window.next_ticket(), Ticket(next));
                    window.sent(seq, true, bytes);
                    let sent = Sent { ticket: next, seq, bytes: bytes as u64, is_acked: false, is_behind: false };
                    model.transactions.last_mut().expect("open").events.push(sent);
                    next += 1;
                    seq += 1;
                }
            }
            Step::Commit if model.is_open() => {
                window.commit(Lsn(lsn));
                model.transactions.last_mut().expect("open").end_lsn = Some(Lsn(lsn));
            }
            Step::Ack(pick) => {
                let open: Vec<usize> = model.events().filter(|sent| !sent.is_acked).map(|sent| sent.ticket).collect();
                if !open.is_empty() {
                    let ticket = open[pick % open.len()];
                    acks.done(Ticket(ticket));
                    let sent = model.transactions.iter_mut().flat_map(|transaction| &mut transaction.events);
                    sent.filter(|sent| sent.ticket == ticket).for_each(|sent| sent.is_acked = true);
                }
            }
            Step::Advance => {
                window.advance(|transaction| delivered += transaction.events);
                model.advance();
            }
            Step::Keepalive if !model.is_open() => {
                window.keepalive(Lsn(lsn));
                if model.transactions.is_empty() {
                    model.frontier =
                        Frontier { end_lsn: Lsn(lsn), inside: model.frontier.inside.filter(|at| at.commit_lsn.0 >= lsn) };
                }
            }
            Step::Rewind => {
                prop_assert_eq!(window.rewind(), model.frontier);
                model.transactions.clear();
            }
            Step::Begin | Step::Sent { .. } | Step::Commit | Step::Keepalive => {}
        }
        prop_assert_eq!(window.frontier(), model.frontier);
        prop_assert_eq!(window.is_empty(), model.transactions.is_empty());
        prop_assert_eq!(window.events(), model.in_flight().count());
        prop_assert_eq!(window.bytes(), model.in_flight().map(|sent| sent.bytes).sum::<u64>());
        prop_assert_eq!(window.open_commit().is_some(), model.is_open());
        prop_assert_eq!(delivered, model.delivered);
        for ticket in next.saturating_sub(90)..next + 2 {
            prop_assert_eq!(window.position_of(Ticket(ticket)), model.position_of(ticket));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_frontier_is_that_of_the_naive_model(steps in steps()) {
        play(steps)?;
    }
}

#[test]
fn a_change_of_several_records_counts_only_with_its_last() {
    let acks = Acks::new(64);
    let mut window = Window::new(Arc::clone(&acks), Limits { bytes: 1 << 20, events: 64 });
    window.start_at(Frontier { end_lsn: Lsn(10), inside: None });
    window.begin(Lsn(20), 0);
    // What comes before the first change, a change of one record, one of two.
    for (seq, is_last) in [(0, false), (0, true), (1, false), (1, true)] {
        window.sent(seq, is_last, 1);
    }
    let inside = |seq| Some(Position { commit_lsn: Lsn(20), seq });
    for (ticket, expected) in [(0, None), (1, inside(0)), (2, inside(0)), (3, inside(1))] {
        acks.done(Ticket(ticket));
        window.advance(|_| {});
        assert_eq!(window.frontier(), Frontier { end_lsn: Lsn(10), inside: expected }, "after ticket {ticket}");
    }
}

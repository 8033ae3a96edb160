//! Kafka's transactions: a coordinator with producer epochs, a client's control calls, and requests that are late, lost or done twice.

use super::{DLQ, Kafka, Producer, Sending, write_event};
use crate::model::chance::Chance;
use crate::model::oracle::Oracle;
use relay_core::Failure;
use relay_core::checkpoint::{ReadError, Record};
use relay_core::window::FailureKind;

/// `transaction.timeout.ms`.
const TIMEOUT_MS: u64 = 60_000;

/// The coordinator of the pipeline's transactional id.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    pub(super) epoch: u64,
    open: Option<Open>,
    /// EndTxn requests that are still on the wire: when each lands, its epoch, and whether it commits.
    strays: Vec<(u64, u64, bool)>,
    /// Epochs that ended because their transaction was open for too long, not because somebody came.
    timed_out: Vec<u64>,
    pub(crate) commits: u64,
    pub(crate) aborts: u64,
    pub(crate) strays_landed: u64,
    pub(crate) inits: u64,
}

/// What one transaction has written.
#[derive(Debug)]
pub(crate) struct Open {
    since_ms: u64,
    events: Vec<(usize, Sending)>,
    record: Option<Record>,
}

/// A client's call of the coordinator.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Commit(Box<Record>),
    Abort,
    Fence,
}

/// What the session is told of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Stored(Result<(), Failure>),
    Aborted(Result<(), Failure>),
    /// Shut out are the others; what is committed may be read.
    Fenced(Result<(), ReadError>),
}

/// A call under way.
#[derive(Debug)]
struct UnderWay {
    call: Call,
    epoch: u64,
    effect_at_ms: Option<u64>,
    answer_at_ms: u64,
    /// What the client makes of it, if that is not what happened.
    disguise: Option<FailureKind>,
    happened: Option<Result<(), FailureKind>>,
}

/// The client's control thread: one call at a time.
#[derive(Debug, Default)]
pub(crate) struct Control {
    under_way: Option<UnderWay>,
}

// === impl Coordinator ===

impl Coordinator {
    pub(super) fn is_current(&self, epoch: u64) -> bool {
        self.epoch == epoch
    }

    /// What a client with an old epoch hears: it cannot always tell a time-out from a successor.
    pub(super) fn refusal(&self, epoch: u64, chance: &mut Chance) -> FailureKind {
        if self.timed_out.contains(&epoch) && chance.one_in(2) { FailureKind::Fatal } else { FailureKind::Fenced }
    }

    pub(super) fn write(&mut self, lane: usize, events: &[Sending], now_ms: u64) {
        self.open(now_ms).events.extend(events.iter().map(|event| (lane, *event)));
    }

    fn open(&mut self, now_ms: u64) -> &mut Open {
        self.open.get_or_insert_with(|| Open { since_ms: now_ms, events: Vec::new(), record: None })
    }

    /// `init_transactions`: whoever had the epoch is shut out, and what it had open is aborted.
    pub(crate) fn init(&mut self) -> u64 {
        self.epoch += 1;
        self.inits += 1;
        self.aborts += u64::from(self.open.take().is_some());
        self.epoch
    }

    /// EndTxn of that epoch: what it commits, if anything.
    fn end(&mut self, epoch: u64, is_commit: bool) -> Option<Open> {
        if self.epoch != epoch {
            return None;
        }
        let open = self.open.take()?;
        let count = if is_commit { &mut self.commits } else { &mut self.aborts };
        *count += 1;
        is_commit.then_some(open)
    }

    /// Whether readers of committed records do not see what is written to the checkpoint topic now.
    pub(crate) fn holds_checkpoints(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.record.is_some())
    }

    /// Late requests land, and what is open for too long is aborted. What is committed by that.
    pub(crate) fn turn(&mut self, now_ms: u64) -> Vec<Open> {
        let mut committed = Vec::new();
        while let Some(at) = self.strays.iter().position(|(at_ms, ..)| *at_ms <= now_ms) {
            let (_, epoch, is_commit) = self.strays.remove(at);
            self.strays_landed += u64::from(self.epoch == epoch && self.open.is_some());
            committed.extend(self.end(epoch, is_commit));
        }
        if self.open.as_ref().is_some_and(|open| now_ms >= open.since_ms + TIMEOUT_MS) {
            self.timed_out.push(self.epoch);
            self.init();
        }
        committed
    }
}

// === impl Open ===

impl Open {
    /// Readers of committed records see it from now on. Gives the checkpoint record in it.
    pub(crate) fn publish(self, oracle: &mut Oracle, parked: &mut u64) -> Option<Record> {
        // All at once: between the dlq and the topics there is no order.
        let (dlq, topics): (Vec<_>, Vec<_>) = self.events.into_iter().partition(|(lane, _)| *lane == DLQ);
        for (lane, event) in dlq.into_iter().chain(topics) {
            write_event(&event, lane, oracle, parked);
            if lane == DLQ {
                oracle.parks(event.record);
            }
        }
        self.record
    }
}

// === impl Control ===

impl Control {
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    pub(crate) fn is_committing(&self) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| matches!(under_way.call, Call::Commit(_)))
    }

    pub(crate) fn begin(&mut self, call: Call, producer: &Producer, kafka: &mut Coordinator, weather: Trouble, at: &mut At<'_>) {
        assert!(self.under_way.is_none(), "one call at a time: {:?} and {call:?}", self.under_way);
        let At { now_ms, chance } = at;
        let epoch = producer.epoch.unwrap_or(0);
        if !matches!(call, Call::Fence) {
            assert_eq!(producer.outstanding, 0, "{call:?} comes when everything sent is answered");
        }
        let effect_at_ms = *now_ms + chance.below(30);
        let answer_at_ms = effect_at_ms + chance.below(30);
        let mut under_way =
            UnderWay { call, epoch, effect_at_ms: Some(effect_at_ms), answer_at_ms, disguise: None, happened: None };
        let is_dead = producer.is_fatal || (producer.epoch.is_none() && !matches!(under_way.call, Call::Fence));
        if is_dead {
            (under_way.effect_at_ms, under_way.disguise) = (None, Some(FailureKind::Fatal));
        } else if producer.is_abortable && matches!(under_way.call, Call::Commit(_)) {
            (under_way.effect_at_ms, under_way.disguise) = (None, Some(FailureKind::Aborted));
        } else if chance.one_in(weather.calls) {
            under_way.go_wrong(kafka, chance);
        }
        if let Call::Commit(record) = &under_way.call
            && kafka.is_current(epoch)
            && !is_dead
        {
            // Produced before the request to end.
            kafka.open(*now_ms).record = Some((**record).clone());
        }
        self.under_way = Some(under_way);
    }

    /// The request's way goes on without the process. What is committed by that.
    pub(crate) fn lands(&mut self, kafka: &mut Coordinator, is_down: bool, at: &mut At<'_>) -> Option<Open> {
        let under_way = self.under_way.as_mut()?;
        under_way.effect_at_ms.take_if(|effect_at_ms| at.now_ms >= *effect_at_ms && !is_down)?;
        let epoch = under_way.epoch;
        if matches!(under_way.call, Call::Fence) {
            under_way.epoch = kafka.init();
            under_way.happened = Some(Ok(()));
            return None;
        }
        if !kafka.is_current(epoch) {
            under_way.happened = Some(Err(kafka.refusal(epoch, at.chance)));
            return None;
        }
        under_way.happened = Some(Ok(()));
        kafka.end(epoch, matches!(under_way.call, Call::Commit(_)))
    }

    /// The answer, once the client has one.
    pub(crate) fn answer(&mut self, producer: &mut Producer, kafka: &Coordinator, now_ms: u64) -> Option<Answer> {
        let is_known = |under_way: &UnderWay| under_way.happened.is_some() || under_way.disguise.is_some();
        let under_way = self.under_way.take_if(|under_way| now_ms >= under_way.answer_at_ms && is_known(under_way))?;
        let result = match (under_way.disguise, under_way.happened) {
            (Some(kind), _) => Err(kind),
            (None, happened) => happened.unwrap_or(Ok(())),
        };
        let failure = |kind| Failure { kind, message: format!("{kind:?}") };
        Some(match under_way.call {
            Call::Commit(_) => {
                // Nothing but an abort helps such a client, whatever it had sent.
                producer.is_abortable |= result == Err(FailureKind::Aborted);
                Answer::Stored(result.map_err(failure))
            }
            Call::Abort => {
                producer.is_abortable &= result.is_err();
                Answer::Aborted(result.map_err(failure))
            }
            Call::Fence if result.is_ok() && !kafka.is_current(under_way.epoch) => {
                // Somebody else has come between our own coming and our marker.
                Answer::Fenced(Err(ReadError::Fenced("the marker is refused".into())))
            }
            Call::Fence => {
                if result.is_ok() {
                    producer.epoch = Some(under_way.epoch);
                }
                Answer::Fenced(result.map_err(|kind| ReadError::Unreachable(format!("{kind:?}"))))
            }
        })
    }

    /// Nobody waits for a fence any more; whether it comes to pass is open.
    pub(crate) fn forget_fence(&mut self, kafka: &mut Coordinator, chance: &mut Chance) {
        if self.under_way.as_ref().is_some_and(|under_way| matches!(under_way.call, Call::Fence))
            && let Some(under_way) = self.under_way.take()
            && under_way.effect_at_ms.is_some()
            && chance.one_in(2)
        {
            kafka.init();
        }
    }

    /// The process is gone; its request may still be on the wire.
    pub(crate) fn die(self, kafka: &mut Coordinator, at: &mut At<'_>) {
        if let Some(under_way) = self.under_way
            && under_way.effect_at_ms.is_some()
            && !matches!(under_way.call, Call::Fence)
            && at.chance.one_in(2)
        {
            let is_commit = matches!(under_way.call, Call::Commit(_));
            kafka.strays.push((at.now_ms + at.chance.below(1_500), under_way.epoch, is_commit));
        }
    }
}

impl UnderWay {
    fn go_wrong(&mut self, kafka: &mut Coordinator, chance: &mut Chance) {
        let is_commit = matches!(self.call, Call::Commit(_));
        let is_fence = matches!(self.call, Call::Fence);
        match chance.below(5) {
            // An error of which the client knows that nothing happened.
            0 if is_commit => (self.effect_at_ms, self.disguise) = (None, Some(FailureKind::Aborted)),
            // The request is lost.
            0 | 1 => (self.effect_at_ms, self.disguise) = (None, Some(FailureKind::Indefinite)),
            // The response is lost.
            2 => {
                self.disguise = Some(FailureKind::Indefinite);
                self.answer_at_ms += chance.below(200);
            }
            // The request is late, and the client has given up long before.
            3 if !is_fence => {
                kafka.strays.push((self.answer_at_ms + chance.below(3_000), self.epoch, is_commit));
                (self.effect_at_ms, self.disguise) = (None, Some(FailureKind::Indefinite));
            }
            // It was sent again by the client itself, which cannot say so; the first copy is still on its way.
            _ if !is_fence => {
                kafka.strays.push((self.answer_at_ms + chance.below(3_000), self.epoch, is_commit));
                self.disguise = Some(FailureKind::Indefinite);
            }
            _ => self.disguise = Some(FailureKind::Indefinite),
        }
    }
}

/// How often the coordinator's calls go wrong: one in so many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) calls: u64,
}

/// When, and by which choices.
#[derive(Debug)]
pub(crate) struct At<'a> {
    pub(crate) now_ms: u64,
    pub(crate) chance: &'a mut Chance,
}

// === impl Kafka ===

impl Kafka {
    /// Late requests land.
    pub(crate) fn transactions_turn(&mut self) -> Vec<Open> {
        self.coordinator.turn(self.now_ms)
    }
}

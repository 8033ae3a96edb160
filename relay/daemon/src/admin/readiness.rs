//! Turns the shared status into the verdicts of the probes, each with its reasons.

use std::time::Duration;

use relay_core::session::State;

use crate::metrics::state_name;
use crate::status::{Loop, Peer, Progress, Status};

/// A loop silent for longer is stale.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// One thing that a probe looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) name: String,
    /// What is wrong with it, in the words of the contract; empty when nothing is.
    pub(super) reasons: Vec<String>,
}

/// What a probe says: fine when no component has a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) probe: &'static str,
    pub(super) components: Vec<Component>,
}

/// `/livez`: each loop is alive, whatever the other sides do.
pub(super) fn live(status: &Status) -> Verdict {
    let silences = [("reader", Loop::Reader), ("ack", Loop::Ack), ("checkpoint", Loop::Checkpoint)]
        .map(|(name, which)| (name, status.silence(which)));
    alive(silences)
}

/// `/startupz`: there is a configuration and a listener, or nobody would ask, and a first attempt at PostgreSQL was made.
pub(super) fn started(status: &Status) -> Verdict {
    let has_tried = status.progress().has_tried;
    let reasons = if has_tried { vec![] } else { vec!["starting".to_owned()] };
    Verdict { probe: "startupz", components: vec![Component { name: "first attempt".to_owned(), reasons }] }
}

/// `/readyz`: streaming, or a healthy standby, and both sides seen lately.
pub(super) fn ready(status: &Status, not_ready_after: Duration) -> Verdict {
    // A side never seen is unseen since the start.
    let unseen = |peer| status.unseen_for(peer).unwrap_or_else(|| status.uptime()) > not_ready_after;
    let (source, sink) = (unseen(Peer::Source), unseen(Peer::Sink));
    judge(&status.progress(), source, sink)
}

fn alive(silences: [(&'static str, Duration); 3]) -> Verdict {
    let component = |(name, silence): (&str, Duration)| {
        let reasons = if silence > STALE_AFTER { vec![format!("loop_stale:{name}")] } else { vec![] };
        Component { name: format!("loop {name}"), reasons }
    };
    Verdict { probe: "livez", components: silences.map(component).into() }
}

fn judge(progress: &Progress, is_source_unseen: bool, is_sink_unseen: bool) -> Verdict {
    let mut stream = Vec::new();
    let mut source = Vec::new();
    let mut sink = Vec::new();
    let fault = progress.fault_reason.filter(|reason| progress.is_faulty && *reason != "standby");
    match progress.state {
        State::Streaming | State::Snapshot | State::Standby => stream.extend(fault.map(str::to_owned)),
        State::Draining => stream.push("draining".to_owned()),
        State::Connecting => stream.push(fault.unwrap_or("starting").to_owned()),
        State::Failed => stream.push(stopped(progress, fault)),
    }
    stream.extend(progress.blocked.clone());
    if is_source_unseen {
        source.push("source_unreachable".to_owned());
    }
    if is_sink_unseen {
        sink.push("sink_unreachable".to_owned());
    }
    // A fault belongs to its side, so that `?verbose` points at it.
    for (reason, side) in [("source_unreachable", &mut source), ("sink_unreachable", &mut sink)] {
        let before = stream.len();
        stream.retain(|each| each != reason);
        if stream.len() < before && side.is_empty() {
            side.push(reason.to_owned());
        }
    }
    let component = |name: &str, reasons| Component { name: name.to_owned(), reasons };
    let state = format!("state {}", state_name(progress.state));
    Verdict { probe: "readyz", components: vec![component(&state, stream), component("source", source), component("sink", sink)] }
}

/// The reason of a stop: that of its kind where it has one of its own, else the code.
fn stopped(progress: &Progress, fault: Option<&str>) -> String {
    let code = || progress.last_error.as_ref().map_or("R0999", |error| error.code);
    fault.map_or_else(|| format!("stopped:{}", code()), str::to_owned)
}

// === impl Verdict ===

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        self.components.iter().all(|component| component.reasons.is_empty())
    }

    /// Every reason once.
    pub(super) fn reasons(&self) -> Vec<&str> {
        let mut reasons: Vec<&str> = Vec::new();
        for reason in self.components.iter().flat_map(|component| &component.reasons) {
            if !reasons.contains(&reason.as_str()) {
                reasons.push(reason);
            }
        }
        reasons
    }

    /// One line a component, as kube-apiserver writes them.
    pub(super) fn verbose(&self) -> String {
        let mut text = String::new();
        for Component { name, reasons } in &self.components {
            match reasons.is_empty() {
                true => text.push_str(&format!("[+]{name} ok\n")),
                false => text.push_str(&format!("[-]{name} failed: {}\n", reasons.join(", "))),
            }
        }
        text.push_str(&format!("{} check {}\n", self.probe, if self.is_good() { "passed" } else { "failed" }));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::LastError;

    fn progress(state: State) -> Progress {
        let mut progress = Status::new().progress().clone();
        progress.state = state;
        progress
    }

    fn faulty(state: State, code: &'static str, reason: Option<&'static str>) -> Progress {
        let mut progress = progress(state);
        let at = crate::clock::rfc3339(0);
        progress.last_error = Some(LastError { code, message: "it failed".to_owned(), hint: "mend it", at });
        progress.is_faulty = true;
        progress.fault_reason = reason;
        progress
    }

    fn blocked(reason: &str) -> Progress {
        let mut progress = progress(State::Streaming);
        progress.blocked = Some(reason.to_owned());
        progress
    }

    #[test]
    fn reasons_are_those_of_the_contract() {
        for (progress, source, sink, wanted) in [
            (progress(State::Streaming), false, false, vec![]),
            (progress(State::Standby), false, false, vec![]),
            (faulty(State::Standby, "R0220", Some("standby")), false, false, vec![]),
            (progress(State::Standby), false, true, vec!["sink_unreachable"]),
            (progress(State::Connecting), false, false, vec!["starting"]),
            (faulty(State::Connecting, "R0201", Some("source_unreachable")), true, false, vec!["source_unreachable"]),
            (faulty(State::Failed, "R0221", Some("slot_missing")), false, false, vec!["slot_missing"]),
            (faulty(State::Failed, "R0226", Some("stopped:R0226")), false, false, vec!["stopped:R0226"]),
            (faulty(State::Failed, "R0226", None), false, false, vec!["stopped:R0226"]),
            (progress(State::Draining), true, true, vec!["draining", "source_unreachable", "sink_unreachable"]),
            (blocked("topic_missing:orders"), false, false, vec!["topic_missing:orders"]),
            (blocked("poison_stopped"), false, false, vec!["poison_stopped"]),
        ] {
            let verdict = judge(&progress, source, sink);
            assert_eq!(verdict.reasons(), wanted, "{progress:?}");
            assert_eq!(verdict.is_good(), wanted.is_empty());
        }
    }

    #[test]
    fn an_old_error_does_not_make_a_stream_unready() {
        let mut progress = faulty(State::Streaming, "R0210", Some("source_unreachable"));
        progress.is_faulty = false;
        assert!(judge(&progress, false, false).is_good());
    }

    #[test]
    fn a_silent_loop_is_stale() {
        let fresh = Duration::from_secs(29);
        assert!(alive([("reader", fresh), ("ack", fresh), ("checkpoint", fresh)]).is_good());
        let verdict = alive([("reader", fresh), ("ack", Duration::from_secs(31)), ("checkpoint", fresh)]);
        assert_eq!(verdict.reasons(), ["loop_stale:ack"]);
        assert_eq!(
            verdict.verbose(),
            "[+]loop reader ok\n[-]loop ack failed: loop_stale:ack\n[+]loop checkpoint ok\nlivez check failed\n"
        );
    }

    #[test]
    fn a_fresh_process_is_alive_but_neither_started_nor_ready() {
        let status = Status::new();
        assert!(live(&status).is_good());
        assert_eq!(started(&status).reasons(), ["starting"]);
        assert_eq!(ready(&status, Duration::from_secs(30)).reasons(), ["starting"]);
        status.progress().has_tried = true;
        assert!(started(&status).is_good());
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(ready(&status, Duration::from_millis(1)).reasons(), ["starting", "source_unreachable", "sink_unreachable"]);
    }
}

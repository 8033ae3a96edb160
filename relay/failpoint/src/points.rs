//! The points by name, how often each was passed, and what happens there.

use crate::plan::{Action, Plan, VARIABLE, parse};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every point, in the order in which an event meets them; then those of starts, snapshots, failures and polling.
pub const NAMES: [&str; 28] = [
    "after-read",
    "before-begin",
    "after-begin",
    "before-produce",
    "after-produce",
    "before-delivery-report",
    "after-delivery-report",
    "before-checkpoint",
    "before-commit",
    "during-commit",
    "after-commit",
    "after-checkpoint",
    "before-status",
    "after-status",
    "bootstrap-record",
    "publication-create",
    "slot-create",
    "takeover-wait",
    "marker-write",
    "epoch-write",
    "tombstone-write",
    "snapshot-chunk",
    "low-watermark",
    "high-watermark",
    "rewind",
    "isolate",
    "tick-read",
    "tick-page",
];

static PASSES: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    parse(&text).unwrap_or_else(|fault| {
        eprintln!("{fault}");
        std::process::exit(64)
    })
});

/// The number of a point. Evaluated while compiling, where an unknown name is an error.
pub const fn index(name: &str) -> usize {
    match find(name) {
        Some(point) => point,
        None => panic!("not a name of a failpoint"),
    }
}

/// The number of a point, if there is one of that name.
pub(crate) const fn find(name: &str) -> Option<usize> {
    let mut at = 0;
    while at < NAMES.len() {
        if is_same(NAMES[at].as_bytes(), name.as_bytes()) {
            return Some(at);
        }
        at += 1;
    }
    None
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Counts a pass and does what is planned for it; whether the caller is to fail. Says so on standard error, so that a test can see that it
/// happened: `failpoint after-read: abort at pass 3; passed: after-read 3, before-produce 2`.
pub fn pass(point: usize) -> bool {
    let pass = PASSES[point].fetch_add(1, Ordering::Relaxed) + 1;
    let mut is_to_fail = false;
    for plan in PLANS.iter().filter(|plan| plan.is_for(point, pass)) {
        let name = NAMES[point];
        match plan.action {
            Action::Abort => {
                eprintln!("failpoint {name}: abort at pass {pass}; passed: {}", passes());
                std::process::abort();
            }
            Action::Sleep(time) => {
                eprintln!("failpoint {name}: sleep at pass {pass}");
                std::thread::sleep(time);
            }
            Action::Error => {
                eprintln!("failpoint {name}: error at pass {pass}");
                is_to_fail = true;
            }
        }
    }
    is_to_fail
}

fn passes() -> String {
    let counts = NAMES.iter().zip(&PASSES).map(|(name, passes)| (name, passes.load(Ordering::Relaxed)));
    let passed: Vec<String> = counts.filter(|(_, passes)| *passes > 0).map(|(name, passes)| format!("{name} {passes}")).collect();
    passed.join(", ")
}

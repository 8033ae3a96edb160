//! Turns the text of an environment variable into what happens at which point.

use crate::points::{NAMES, find};
use std::time::Duration;

/// The variable: `point=action` or `point=action@n`, several with `;` between them.
///
/// Actions: `abort`, `sleep(milliseconds)`, `error` (where the point has a value to return). With `@n` it happens at the n-th pass alone,
/// with `@n+` from the n-th on, else at each. What cannot be understood ends the process with code 64: a test with a wrong plan must fail.
pub const VARIABLE: &str = "RELAY_FAILPOINTS";

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Abort,
    Sleep(Duration),
    Error,
}

/// One entry of the variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) point: usize,
    pub(crate) action: Action,
    first: u64,
    last: u64,
}

// === impl Plan ===

impl Plan {
    /// Whether it applies to that pass, counted from 1.
    pub(crate) fn is_for(&self, point: usize, pass: u64) -> bool {
        self.point == point && (self.first..=self.last).contains(&pass)
    }

    fn parse(text: &str) -> Result<Plan, String> {
        let fault = |what: &str| format!("{VARIABLE}: `{text}`: {what}");
        let (name, rest) = text.split_once('=').ok_or_else(|| fault("expected point=action"))?;
        let point = find(name.trim()).ok_or_else(|| fault(&format!("the points are {}", NAMES.join(", "))))?;
        let (action, passes) = rest.split_once('@').unwrap_or((rest, ""));
        let action = match action.trim() {
            "abort" => Action::Abort,
            "error" => Action::Error,
            other => {
                let number = other.strip_prefix("sleep(").and_then(|rest| rest.strip_suffix(')'));
                let number = number.and_then(|number| number.parse().ok());
                Action::Sleep(Duration::from_millis(number.ok_or_else(|| fault("expected abort, sleep(ms) or error"))?))
            }
        };
        let (digits, is_open) = passes.trim().strip_suffix('+').map_or((passes.trim(), false), |digits| (digits, true));
        let (first, last) = match digits.parse::<u64>() {
            _ if passes.is_empty() => (1, u64::MAX),
            Ok(n) if n > 0 => (n, if is_open { u64::MAX } else { n }),
            _ => return Err(fault("expected the number of a pass after @")),
        };
        Ok(Plan { point, action, first, last })
    }
}

/// All entries of the variable.
pub(crate) fn parse(text: &str) -> Result<Vec<Plan>, String> {
    text.split(';').map(str::trim).filter(|entry| !entry.is_empty()).map(Plan::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_say_where_what_and_when() {
        let plans = parse("after-read=abort@3; rewind = sleep(20)@2+;during-commit=error").expect("a plan");
        let [abort, sleep, error] = plans[..] else { panic!("three entries: {plans:?}") };
        assert_eq!((NAMES[abort.point], abort.action), ("after-read", Action::Abort));
        assert!(!abort.is_for(abort.point, 2) && abort.is_for(abort.point, 3) && !abort.is_for(abort.point, 4));
        assert_eq!((NAMES[sleep.point], sleep.action), ("rewind", Action::Sleep(Duration::from_millis(20))));
        assert!(!sleep.is_for(sleep.point, 1) && sleep.is_for(sleep.point, 9) && !sleep.is_for(abort.point, 9));
        assert_eq!((NAMES[error.point], error.action, error.is_for(error.point, 1)), ("during-commit", Action::Error, true));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for text in
            ["after-read", "nowhere=abort", "after-read=explode", "after-read=abort@0", "after-read=sleep(x)", "rewind=abort@"]
        {
            let is_plain = text.ends_with('@');
            assert_eq!(parse(text).is_err(), !is_plain, "{text}");
        }
    }
}

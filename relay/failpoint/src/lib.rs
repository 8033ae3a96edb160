//! Places in the code where a test makes the process die, wait or fail. Without the feature `enabled` there are none.
//!
//! `fail_point!("after-produce")` may end or delay the process; `fail_point!("x" if condition)` only then; `fail_point!("x" beside)`
//! does so a moment later from another thread, while a call that blocks is under way; `fail_point!("x", Err(fault))` may also leave the
//! function it stands in, with that value. What happens at which point is told by the environment, see `VARIABLE`.
//!
//! The crate `fail` does the same with a lock and a map at each pass. It counts no passes and has no action that ends the process, and what
//! is behind the macro may be replaced by it at any time.

#[cfg(feature = "enabled")]
mod plan;
#[cfg(feature = "enabled")]
mod points;

#[cfg(feature = "enabled")]
pub use plan::VARIABLE;
#[cfg(feature = "enabled")]
pub use points::{NAMES, index, pass};

/// A point by its name; a name that is not in the list does not compile.
#[cfg(feature = "enabled")]
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {{
        const POINT: usize = $crate::index($name);
        $crate::pass(POINT);
    }};
    ($name:literal if $condition:expr) => {
        if $condition {
            $crate::fail_point!($name);
        }
    };
    ($name:literal beside) => {
        let _ = ::std::thread::Builder::new().spawn(|| {
            ::std::thread::sleep(::std::time::Duration::from_millis(1));
            $crate::fail_point!($name);
        });
    };
    ($name:literal, $value:expr) => {{
        const POINT: usize = $crate::index($name);
        if $crate::pass(POINT) {
            return $value;
        }
    }};
}

/// Nothing.
#[cfg(not(feature = "enabled"))]
#[macro_export]
macro_rules! fail_point {
    ($($tokens:tt)*) => {};
}

#[cfg(all(test, not(feature = "enabled")))]
mod tests {
    #[test]
    fn a_build_without_the_feature_has_no_points() {
        // Neither the name nor the value exists: this compiles because nothing of it is left.
        fail_point!("no such point", no_such_value());
    }
}

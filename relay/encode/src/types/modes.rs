//! How values are written: the keys of `[format]` that section 8 of the event format speaks of, checked once.

use crate::error::RouteError;
use crate::settings::FormatSettings;

/// The modes of a pipeline's captures.
#[derive(Clone, Debug)]
pub(crate) struct Modes {
    pub(crate) decimal: DecimalMode,
    pub(crate) time: TimeMode,
    pub(crate) interval: IntervalMode,
    pub(crate) binary: BinaryMode,
    pub(crate) hstore: HstoreMode,
    /// Decimals of `money`.
    pub(crate) money_scale: u32,
    /// `compat = "debezium"`.
    pub(crate) is_debezium: bool,
    /// Whether values carry their schema.
    pub(crate) schemas: bool,
    /// The placeholder of an unchanged TOAST value, as bytes.
    pub(crate) unavailable: Box<[u8]>,
    pub(crate) invalid_utf8: InvalidUtf8,
}

/// Declares a mode with the words of its key.
macro_rules! mode {
    ($(#[$doc:meta])* $name:ident, $key:literal: $($(#[$what:meta])* $case:ident = $word:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$what])* $case),* }

        impl $name {
            fn parse(word: &str) -> Result<Self, RouteError> {
                match word {
                    $($word => Ok(Self::$case),)*
                    _ => Err(RouteError::value($key, format!("`{word}` is not one of {}", [$(concat!("`", $word, "`")),*].join(", ")))),
                }
            }
        }
    };
}

mode! {
    /// `format.decimal`.
    DecimalMode, "decimal": Precise = "precise", Text = "string", Double = "double"
}
mode! {
    /// `format.time`.
    TimeMode, "time": Adaptive = "adaptive", AdaptiveMicros = "adaptive-microseconds", Connect = "connect", Iso = "isostring",
    Micros = "microseconds", Nanos = "nanoseconds"
}
mode! {
    /// `format.interval`.
    IntervalMode, "interval": Numeric = "numeric", Text = "string"
}
mode! {
    /// `format.binary`.
    BinaryMode, "binary": Bytes = "bytes", Base64 = "base64", Base64Url = "base64-url-safe", Hex = "hex"
}
mode! {
    /// `format.hstore`.
    HstoreMode, "hstore": Json = "json", Map = "map"
}
mode! {
    /// `format.invalid_utf8`.
    InvalidUtf8, "invalid_utf8":
    /// The value cannot be published.
    Poison = "poison",
    /// U+FFFD in place of each wrong sequence.
    Replace = "replace",
    /// The whole value as base64.
    Base64 = "base64",
}

// === impl Modes ===

impl Modes {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first key whose value is none of its words.
    pub(crate) fn new(format: &FormatSettings) -> Result<Self, RouteError> {
        let unavailable = match format.unavailable_value.strip_prefix("hex:") {
            None => format.unavailable_value.as_bytes().into(),
            Some(digits) => {
                hex(digits).ok_or_else(|| RouteError::value("unavailable_value", "`hex:` needs pairs of hex digits"))?
            }
        };
        Ok(Self {
            decimal: DecimalMode::parse(&format.decimal)?,
            time: TimeMode::parse(&format.time)?,
            interval: IntervalMode::parse(&format.interval)?,
            binary: BinaryMode::parse(&format.binary)?,
            hstore: HstoreMode::parse(&format.hstore)?,
            money_scale: format.money_scale,
            is_debezium: format.compat == "debezium",
            schemas: format.schemas,
            unavailable,
            invalid_utf8: InvalidUtf8::parse(&format.invalid_utf8)?,
        })
    }
}

fn hex(digits: &str) -> Option<Box<[u8]>> {
    let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = pairs.iter().map(|&[high, low]| u8::try_from(digit(high)? << 4 | digit(low)?).ok()).collect::<Option<_>>()?;
    odd.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_checked_and_the_placeholder_may_be_hex() {
        let modes = Modes::new(&FormatSettings::default()).expect("the defaults are legal");
        assert_eq!(&*modes.unavailable, b"__debezium_unavailable_value");
        let mut settings = FormatSettings { unavailable_value: "hex:00fF".into(), ..FormatSettings::default() };
        assert_eq!(&*Modes::new(&settings).expect("legal").unavailable, b"\x00\xFF");
        settings.unavailable_value = "hex:0".into();
        assert_eq!(Modes::new(&settings).expect_err("odd").field, "unavailable_value");
        settings = FormatSettings { decimal: "exact".into(), ..FormatSettings::default() };
        assert!(Modes::new(&settings).expect_err("no such word").message.contains("`precise`, `string`, `double`"));
    }
}

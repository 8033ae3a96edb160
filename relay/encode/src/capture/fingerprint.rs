//! Captures and their format as the text that a checkpoint's fingerprint is made of.

use super::settings::{CaptureSettings, FlatSettings};
use crate::settings::FormatSettings;
use std::fmt::Write as _;

/// Appends the fields that are not what they are by default, so that a key which a later version brings changes no fingerprint.
macro_rules! differing {
    ($text:ident, $value:expr, $default:expr; $($field:ident),* $(,)?) => {
        $(if $value.$field != $default.$field {
            // Writing to memory does not fail.
            let _ = writeln!($text, concat!(stringify!($field), "={:?}"), $value.$field);
        })*
    };
}

/// Everything that decides bytes and routing; the process's own `run_id` and what only outboxes read are left out.
pub(super) fn canonical(captures: &[CaptureSettings], format: &FormatSettings) -> String {
    let mut text = String::new();
    let (default, flat) = (CaptureSettings::default(), FlatSettings::default());
    for capture in captures {
        text.push_str("[[capture]]\n");
        differing!(text, capture, default;
            tables, exclude, format, topic, key, operations, filter, partition, key_change, columns_exclude, mask,
        );
        differing!(text, capture.flat, flat; delete, add_fields, add_headers, prefix);
    }
    let default = FormatSettings::default();
    differing!(text, format, default;
        pipeline, topic_prefix, compat, schemas, decimal, time, interval, binary, hstore, money_scale, unavailable_value, tombstones,
        transaction_metadata, unavailable_header, source_version, cloudevents_mode, cloudevents_source, cloudevents_type,
        cloudevents_partitionkey, messages, position_header, source_header, record_timestamp, invalid_utf8,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_say_nothing_and_the_run_is_not_told() {
        let settings = CaptureSettings { key: vec!["a".to_owned()], ..CaptureSettings::default() };
        let format = FormatSettings { schemas: true, run_id: "x".to_owned(), ..FormatSettings::default() };
        assert_eq!(canonical(&[settings], &format), "[[capture]]\nkey=[\"a\"]\nschemas=true\n");
        assert_eq!(canonical(&[], &FormatSettings::default()), "");
    }
}

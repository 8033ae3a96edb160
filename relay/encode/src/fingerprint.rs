//! Routes become the short text by which a checkpoint tells that the routing has changed.

use crate::route::Routes;

/// 64-bit FNV-1a: stable for ever, not a defence against anybody.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `config_fingerprint` of the checkpoint record: sixteen hexadecimal digits over the routes in their order and over `others`
/// (name and value), which the caller adds: the partitioner, topic maps.
#[must_use]
pub fn config_fingerprint(routes: &Routes, others: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for route in routes.iter() {
        text.push_str("[[outbox]]\n");
        text.push_str(route.canonical());
    }
    for (name, value) in others {
        text.push_str(name);
        text.push('=');
        text.extend(value.escape_debug());
        text.push('\n');
    }
    format!("{:016x}", fnv1a(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;
    use crate::settings::{FormatSettings, OutboxSettings};

    #[test]
    fn the_fingerprint_is_stable_and_tells_routes_apart() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        let of = |key: Option<&str>| {
            let settings = OutboxSettings { key: key.map(str::to_owned), ..Default::default() };
            let route = Route::new(settings, &FormatSettings::default()).expect("legal");
            config_fingerprint(&Routes::new([route]), &[("partitioner", "murmur2_random")])
        };
        assert_eq!(of(None), of(Some("key")));
        assert_ne!(of(None), of(Some("id")));
        assert_eq!(of(None).len(), 16);
    }
}

//! Decides by its `Host` whether a request was meant for us, so that a web page cannot reach us through a name of its own.

use std::net::{IpAddr, Ipv6Addr};

/// Whether the host of a `Host` header (with or without a port) is an IP literal, `localhost`, or one of `hosts`.
///
/// DNS rebinding needs a name that its attacker controls; an address or one of our own names is none.
pub(super) fn is_ours(header: &str, hosts: &[String]) -> bool {
    let host = without_port(header);
    if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok();
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}

fn without_port(header: &str) -> &str {
    match header.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => header,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_and_known_names_are_ours() {
        let hosts = vec!["relay.shop.svc".to_owned()];
        for good in [
            "127.0.0.1",
            "10.1.2.3:9464",
            "[::1]",
            "[fe80::1]:9464",
            "localhost:9464",
            "LOCALHOST",
            "relay.shop.svc:80",
            "relay.shop.svc.",
        ] {
            assert!(is_ours(good, &hosts), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[evil]",
            "1.2.3.4@evil",
            ":80",
        ] {
            assert!(!is_ours(bad, &hosts), "{bad}");
        }
    }
}

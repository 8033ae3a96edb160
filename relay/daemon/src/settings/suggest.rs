//! Turns a mistyped word into the known one that was probably meant.

/// The known word nearest to `word`, when it is near enough to be a slip of the fingers.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let lower = word.to_lowercase();
    known
        .filter(|candidate| !candidate.is_empty())
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether a key of this name holds, or was meant to hold, a secret: then its value is never shown.
pub(crate) fn names_a_secret(key: &str) -> bool {
    const PARTS: [&str; 9] = ["pass", "pwd", "secret", "token", "pem", "credential", "jaas", "private", "ssl.key"];
    const WORDS: [(&str, usize); 3] = [("password", 2), ("token", 1), ("secret", 1)];
    let key = key.to_lowercase();
    if key.ends_with("_file") || key.ends_with("_env") || key.ends_with(".location") || key == "allow_plaintext_password" {
        return false;
    }
    // The lengths first: this runs for every word of a file.
    let is_near = |word: &str, (wanted, limit): (&str, usize)| {
        word.len().abs_diff(wanted.len()) <= limit && strsim::osa_distance(word, wanted) <= limit
    };
    PARTS.iter().any(|part| key.contains(part))
        || key.split(['_', '.', '-']).any(|word| WORDS.iter().any(|wanted| is_near(word, *wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_named_and_a_stranger_is_not() {
        assert_eq!(nearest("slott", ["slot", "publication"].into_iter()), Some("slot"));
        assert_eq!(nearest("SLOT", ["slot"].into_iter()), Some("slot"));
        assert_eq!(nearest("unrelated", ["slot", "publication"].into_iter()), None);
        assert_eq!(nearest("x", [""].into_iter()), None);
    }

    #[test]
    fn keys_that_were_meant_to_hold_a_secret_are_recognised() {
        for key in [
            "password",
            "pasword",
            "psswrd",
            "sasl.password",
            "ssl.key.pem",
            "toekn",
            "client.secret",
            "PASSWORT",
            "key_password",
        ] {
            assert!(names_a_secret(key), "{key}");
        }
        for key in ["slot", "password_file", "token_env", "spool_memory", "brokers", "key", "ssl.ca.location", "tombstones"] {
            assert!(!names_a_secret(key), "{key}");
        }
    }
}

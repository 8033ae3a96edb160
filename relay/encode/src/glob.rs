//! A glob, in which `*` stands for any characters, matches a raw name and tells what the star stood for.

/// A name pattern. Without a star it matches only itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Box<str>);

// === impl Glob ===

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn has_star(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether the whole of `name` matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                retry = Some((p + 1, n));
                p += 1;
            } else if pattern.get(p) == name.get(n) {
                p += 1;
                n += 1;
            } else if let Some((behind_star, taken)) = retry {
                p = behind_star;
                n = taken + 1;
                retry = Some((behind_star, n));
            } else {
                return false;
            }
        }
        pattern.get(p..).unwrap_or_default().iter().all(|&byte| byte == b'*')
    }

    /// What the last star stands for in `name`, which matches; `None` without a star.
    pub(crate) fn rest<'a>(&self, name: &'a str) -> Option<&'a str> {
        let (before, after) = self.0.rsplit_once('*')?;
        let middle = name.strip_suffix(after)?;
        if !before.contains('*') {
            return middle.strip_prefix(before);
        }
        // Earlier stars take as little as they can, so the last one takes the rest.
        let head = Glob::new(before);
        middle
            .char_indices()
            .map(|(at, _)| at)
            .chain([middle.len()])
            .find(|&at| head.matches(&middle[..at]))
            .map(|at| &middle[at..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_characters() {
        let cases = [
            ("public.outbox", "public.outbox", Some(None)),
            ("public.outbox", "public.outbox2", None),
            ("public.*", "public.a.b", Some(Some("a.b"))),
            ("pgmq.q_*", "pgmq.q_orders", Some(Some("orders"))),
            ("*", "", Some(Some(""))),
            ("a*b*c", "aXbYbZc", Some(Some("YbZ"))),
            ("*.outbox_*", "s.outbox_x", Some(Some("x"))),
            ("a*b", "ac", None),
            ("public.outbox", "Public.outbox", None),
        ];
        for (pattern, name, want) in cases {
            let glob = Glob::new(pattern);
            let got = glob.matches(name).then(|| glob.rest(name));
            assert_eq!(got, want, "{pattern} {name}");
        }
    }
}

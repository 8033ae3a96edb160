//! Turns `x`, `x_file` and `x_env` into one secret that is read when it is needed and never printed.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::schema::{Fault, Field, Form, Key};
use super::tree::{Table, Value};

/// What stands in for a secret wherever one is printed.
pub(crate) const MASK: &str = "***";

/// A secret of the configuration. Only [`Secret::reveal`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Text(Zeroizing<String>),
    File(PathBuf),
    Env(String),
}

/// A secret that could not be read; names the place, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// The file of an `x_file`.
    #[error("read the secret file `{path}`: {reason}", path = path.display())]
    File { path: PathBuf, reason: String },
    /// The variable of an `x_env`.
    #[error("the environment variable `{name}` that holds the secret {reason}")]
    Env { name: String, reason: &'static str },
}

// === impl Secret ===

impl Secret {
    /// A secret that is known already.
    pub(crate) fn from_text(text: impl Into<String>) -> Self {
        Self(Place::Text(Zeroizing::new(text.into())))
    }

    /// Reads the secret: a file again at each call, because credentials rotate. One line end at the end does not count.
    pub(crate) fn reveal(&self) -> Result<Zeroizing<String>, SecretError> {
        match &self.0 {
            Place::Text(text) => Ok(text.clone()),
            Place::File(path) => {
                let failed = |reason: String| SecretError::File { path: path.clone(), reason };
                let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?);
                let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
                if line.is_empty() { Err(failed("the file is empty".to_owned())) } else { Ok(Zeroizing::new(line.to_owned())) }
            }
            Place::Env(name) => {
                let failed = |reason| SecretError::Env { name: name.clone(), reason };
                let value = std::env::var_os(name).ok_or_else(|| failed("is not set"))?;
                value.into_string().map(Zeroizing::new).map_err(|_| failed("is not UTF-8"))
            }
        }
    }

    /// The file that holds it, where one does: `doctor` looks at its permissions, and a change of it is noticed.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Place::File(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Text(_) => out.write_str(MASK),
            Place::File(path) => write!(out, "{MASK} (file {})", path.display()),
            Place::Env(name) => write!(out, "{MASK} (environment {name})"),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

impl Field for Option<Secret> {
    const FORM: Form = Form::Secret;

    fn read(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::Text(text) => Ok(Some(Secret::from_text(text.clone()))),
            // No value in the message or the hint: this one is a secret.
            other => Err(Fault::expected("text", other).hint("write it in quotes")),
        }
    }

    fn take(section: &Table, key: &Key) -> Self {
        let text = |suffix: &str| section.get(&format!("{}{suffix}", key.name)).and_then(|node| node.value.as_text());
        if let Some(path) = text("_file") {
            return Some(Secret(Place::File(PathBuf::from(path))));
        }
        if let Some(name) = text("_env") {
            return Some(Secret(Place::Env(name.to_owned())));
        }
        text("").map(Secret::from_text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_when_needed_and_never_printed() {
        let path = std::env::temp_dir().join(format!("relay-secret-{}", std::process::id()));
        std::fs::write(&path, "first\r\n").unwrap();
        let secret = Secret(Place::File(path.clone()));
        assert_eq!(secret.reveal().unwrap().as_str(), "first");
        std::fs::write(&path, "second").unwrap();
        assert_eq!(secret.reveal().unwrap().as_str(), "second");
        std::fs::write(&path, "\n").unwrap();
        assert!(secret.reveal().unwrap_err().to_string().contains("empty"));
        std::fs::remove_file(&path).unwrap();
        assert!(secret.reveal().is_err());

        let secret = Secret::from_text("canary");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert!(Secret(Place::Env("RELAY_NO_SUCH_VARIABLE".to_owned())).reveal().unwrap_err().to_string().contains("is not set"));
    }
}

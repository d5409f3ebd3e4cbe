//! How we say who we are: secrets out of files, read anew for each connection, because they are renewed.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// What goes into `authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    None,
    /// The file holds a bearer token.
    Token(PathBuf),
    /// A user, and the file that holds the password.
    Basic {
        /// Who.
        user: String,
        /// Where the password is.
        password_file: PathBuf,
    },
}

/// A file that no credential can be had from.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be used as a credential: {error}", path.display())]
pub(super) struct CredentialError {
    path: PathBuf,
    error: String,
}

impl Credential {
    /// The header's value.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, CredentialError> {
        match self {
            Self::None => Ok(None),
            Self::Token(path) => sensitive(path, &format!("Bearer {}", read(path)?)).map(Some),
            Self::Basic { user, password_file } => basic(password_file, &format!("{user}:{}", read(password_file)?)),
        }
    }

    /// The file that it is read from.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Token(path) | Self::Basic { password_file: path, .. } => Some(path),
        }
    }
}

/// `user:password` out of a file, for a proxy.
///
/// # Errors
/// The file, and what is wrong with it.
pub(super) fn basic_from_file(path: &Path) -> Result<Option<HeaderValue>, CredentialError> {
    basic(path, &read(path)?)
}

fn basic(path: &Path, user_and_password: &str) -> Result<Option<HeaderValue>, CredentialError> {
    sensitive(path, &format!("Basic {}", STANDARD.encode(user_and_password))).map(Some)
}

fn read(path: &Path) -> Result<String, CredentialError> {
    let fault = |error: String| CredentialError { path: path.to_owned(), error };
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() { Err(fault("it is empty".to_owned())) } else { Ok(text.to_owned()) }
}

fn sensitive(path: &Path, text: &str) -> Result<HeaderValue, CredentialError> {
    let fault = |_| CredentialError { path: path.to_owned(), error: "it holds what no header may hold".to_owned() };
    let mut value = HeaderValue::from_str(text).map_err(fault)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_from_their_files_and_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "open sesame\n").unwrap();
        let path = file.path().to_owned();
        let token = Credential::Token(path.clone()).header().unwrap().unwrap();
        assert_eq!(token.as_bytes(), b"Bearer open sesame");
        // RFC 7617, section 2.
        let basic =
            Credential::Basic { user: "Aladdin".into(), password_file: path.clone() }.header().unwrap().unwrap();
        assert_eq!(basic.as_bytes(), b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{token:?}{basic:?}"), "SensitiveSensitive");
        std::fs::write(&path, " \n").unwrap();
        assert!(Credential::Token(path.clone()).header().unwrap_err().to_string().contains("empty"));
        std::fs::write(&path, "two\nlines").unwrap();
        let error = Credential::Token(path).header().unwrap_err().to_string();
        assert!(error.contains("header") && !error.contains("lines"), "{error}");
    }
}

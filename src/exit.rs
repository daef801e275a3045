//! How an invocation ends: exit codes, and errors as a person reads them.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use serde::Serialize;

use crate::plan::PodName;

/// The exit codes of the plugin; they are part of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Exit {
    /// What was asked was done; a fault ran and was reverted.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Refused; the pod's traffic and processes were not touched.
    Refused = 3,
    /// The fault has ended, but it was not verified that nothing is left of it.
    NotClean = 4,
    /// Interrupted, and reverted.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends the invocation.
#[derive(Clone, Debug)]
pub struct Error {
    /// The code to exit with.
    pub exit: Exit,
    /// What was being done, to what, and what went wrong; one sentence each.
    pub messages: Vec<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Error {
    /// One message and no hint.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, messages: vec![message.to_string()], hint: None }
    }

    /// None: all that was wanted has been done.
    pub const fn nothing() -> Self {
        Self { exit: Exit::Done, messages: Vec::new(), hint: None }
    }

    /// What was asked cannot work; nothing was touched.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Something failed that has nothing to do with what was asked.
    pub fn internal(doing: &str, error: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, format_args!("{doing}: {error}"))
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with one more.
    #[must_use]
    pub fn hint_too(mut self, hint: &str) -> Self {
        self.hint = Some(self.hint.map_or_else(|| hint.to_owned(), |own| format!("{own}; {hint}")));
        self
    }

    /// The same with the pod that it is about, where that is not said.
    #[must_use]
    pub fn in_pod(mut self, name: &PodName) -> Self {
        let pod = format!("pod/{name}");
        let said = |text: &str| text.contains(&pod) || text.starts_with(FROM_SERVER);
        for message in self.messages.iter_mut().filter(|message| !said(message)) {
            message.insert_str(0, &format!("{pod}: "));
        }
        self
    }

    /// Writes it to stderr, as kubectl does, and gives its exit code.
    pub fn print(&self) -> Exit {
        // There is nobody to tell that it could not be told.
        let _ = write!(io::stderr(), "{self}");
        self.exit
    }
}

/// What errors of the API server begin with, as kubectl has it.
const FROM_SERVER: &str = "Error from server";

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for message in &self.messages {
            // The API server's own words keep the head that kubectl gives them.
            if message.starts_with(FROM_SERVER) {
                writeln!(out, "{message}")?;
            } else {
                writeln!(out, "error: {message}")?;
            }
        }
        match &self.hint {
            Some(hint) => writeln!(out, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Error {
    /// For writes to stdout: a reader that has gone (`… | head`) is no error.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::nothing()
        } else {
            Self::internal("writing to stdout", error)
        }
    }
}

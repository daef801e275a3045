//! Ctrl-C and SIGTERM, and what else has a fault end early.

use tokio::sync::watch;

use crate::exit::Error;

/// Counts the requests to stop.
pub(super) struct Interrupts {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    /// Becomes true when the faults on other pods are to end too.
    called_off: watch::Receiver<bool>,
    /// The latest reason, in a word or two.
    pub why: &'static str,
}

impl Interrupts {
    /// From now on the signals no longer end the process.
    pub(super) fn catch() -> Result<Self, Error> {
        Self::catch_with(watch::channel(false).1)
    }

    /// The same, and it can be called off.
    pub(super) fn catch_with(called_off: watch::Receiver<bool>) -> Result<Self, Error> {
        let why = "interrupted";
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let catch =
                |kind| signal(kind).map_err(|error| Error::internal("catching signals", error));
            Ok(Self {
                interrupt: catch(SignalKind::interrupt())?,
                terminate: catch(SignalKind::terminate())?,
                called_off,
                why,
            })
        }
        #[cfg(not(unix))]
        Ok(Self { called_off, why })
    }

    /// Waits for the next one. Cancel safe.
    pub(super) async fn next(&mut self) {
        let called_off = async {
            // Nobody is left who could call it off.
            if self.called_off.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => self.why = "interrupted",
            _ = self.terminate.recv() => self.why = "interrupted",
            () = called_off => self.why = "another pod failed",
        }
        #[cfg(not(unix))]
        tokio::select! {
            signal = tokio::signal::ctrl_c() => match signal {
                Ok(()) => self.why = "interrupted",
                Err(_) => std::future::pending::<()>().await,
            },
            () = called_off => self.why = "another pod failed",
        }
    }
}

//! A progress bar where a person looks, lines where a program does.

use std::{
    io::{IsTerminal as _, Write as _, stderr, stdout},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pod_chaos_protocol::Event;

use super::{Follow, json, text};
use crate::{cli::OutputFormat, exit::Error, plan::PodName};

/// The follower of one fault.
pub struct Progress {
    output: OutputFormat,
    namespace: String,
    name: PodName,
    /// On stderr; hidden where that is no terminal.
    bar: ProgressBar,
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(output: OutputFormat, namespace: &str, name: &PodName) -> Self {
        let terminal = stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:20} {msg}") {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_prefix(format!("pod/{name}"));
        let (namespace, name) = (namespace.to_owned(), name.clone());
        Self { output, namespace, name, bar, terminal, shown: false }
    }

    fn show(&mut self, left: Duration, of: Duration, message: String) {
        // Each new target would begin a line of its own.
        if !std::mem::replace(&mut self.shown, true) && self.terminal {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.bar.set_length(millis(of).max(1));
        self.bar.set_position(millis(of.saturating_sub(left)));
        self.bar.set_message(message);
    }

    /// Prints above the bar.
    fn line(&self, print: impl FnOnce() -> std::io::Result<()>) -> Result<(), Error> {
        self.bar.suspend(print)?;
        Ok(())
    }
}

impl Follow for Progress {
    fn note(&mut self, note: &str) {
        self.bar.suspend(|| eprintln!("{note}"));
    }

    fn warming_up(&mut self, left: Duration, of: Duration) {
        if !self.shown && !self.terminal {
            let seconds = of.as_secs_f64();
            self.note(&format!("pod/{} waiting {seconds:.1} s before the start", self.name));
        }
        self.show(left, of, format!("{:.0} s until the start", left.as_secs_f64().ceil()));
    }

    fn event(&mut self, event: &Event) -> Result<(), Error> {
        if matches!(event, Event::Ended { .. } | Event::Failed { .. }) {
            self.finish();
        }
        let in_force = match event {
            Event::InForce { status } => Some((text::what(status), status.remaining_ms)),
            Event::ProcessInForce { status } => {
                Some((status.doing.to_string(), status.remaining_ms))
            }
            _ => None,
        };
        if let Some((what, remaining_ms)) = in_force {
            let left = Duration::from_millis(remaining_ms);
            self.bar.set_prefix(format!("pod/{} {what}", self.name));
            self.show(left, left, time_left(left));
        }
        match (self.output, event) {
            (OutputFormat::Json, event) => {
                let value = json::event(&self.namespace, &self.name, event);
                self.line(|| writeln!(stdout(), "{value}"))
            }
            // Said by the error that ends the invocation.
            (OutputFormat::Text, Event::Failed { .. } | Event::Status { .. }) => Ok(()),
            (
                OutputFormat::Text,
                Event::Probed { .. }
                | Event::Replaced { .. }
                | Event::Found { .. }
                | Event::Retargeted { .. }
                | Event::Kept { .. },
            ) => {
                let line = text::event(&self.name, event);
                self.note(&line);
                Ok(())
            }
            (OutputFormat::Text, event) => {
                let line = text::event(&self.name, event);
                self.line(|| writeln!(stdout(), "{line}"))?;
                if let Event::Ended { packets: Some(0), .. } = event {
                    self.note("warning: no packet that was to be hit came by meanwhile");
                }
                Ok(())
            }
        }
    }

    fn time_left(&mut self, left: Duration) {
        let of = Duration::from_millis(self.bar.length().unwrap_or(1));
        self.show(left, of, time_left(left));
    }

    fn detached(&mut self, ender: &str, remaining_ms: u64, flags: &str) {
        self.finish();
        if self.output == OutputFormat::Text {
            eprintln!(
                "detached: {ender} ends it in {} s; `kubectl pod-chaos revert {flags}` ends it now",
                remaining_ms.div_ceil(1000)
            );
        }
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn time_left(left: Duration) -> String {
    format!("{:.0} s left", left.as_secs_f64().ceil())
}

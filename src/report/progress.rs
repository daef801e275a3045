//! A progress bar where a person looks, lines where a program does.

use std::{rc::Rc, time::Duration};

use indicatif::ProgressBar;
use pod_chaos_protocol::Event;
use serde_json::Value;

use super::{Board, Follow, board, json, say, text};
use crate::{
    cluster::Scope,
    exit::{Error, Exit},
    plan::PodName,
};

/// What some notes begin with.
const WARNING: &str = "warning: ";

/// The follower of one fault.
pub struct Progress {
    board: Rc<Board>,
    /// Which of the board's results is its own.
    result: usize,
    scope: Scope,
    name: PodName,
    bar: ProgressBar,
    /// From its start to its end, once it is in force.
    length: Duration,
    shown: bool,
    /// Whether the bar is its own.
    own: bool,
    /// What has been hit so far, where that is told.
    hit: Option<String>,
}

impl Progress {
    /// Nothing is shown yet.
    pub(super) fn new(board: Rc<Board>, result: usize, scope: &Scope, name: &PodName) -> Self {
        let bar = board::new_bar();
        bar.set_prefix(format!("pod/{name}"));
        let (scope, name) = (scope.clone(), name.clone());
        let length = Duration::ZERO;
        Self { board, result, scope, name, bar, length, shown: false, own: true, hit: None }
    }

    fn show(&mut self, left: Duration, of: Duration, message: String) {
        // Each new target would begin a line of its own.
        if !std::mem::replace(&mut self.shown, true) {
            self.own = self.board.show(&self.bar);
        }
        if self.own {
            board::set(&self.bar, left, of, message);
        } else {
            self.board.share(left, of, &message);
        }
    }

    /// A line about the pod, with where that is where there are others.
    fn placed(&self, line: String) -> String {
        let rest = line.strip_prefix(WARNING).unwrap_or(&line);
        if self.board.are_apart() && rest.starts_with("pod/") {
            let head = if rest.len() < line.len() { WARNING } else { "" };
            format!("{head}{}: {rest}", self.scope)
        } else {
            line
        }
    }
}

impl Follow for Progress {
    fn note(&mut self, note: &str) {
        match self.placed(note.to_owned()) {
            placed if placed == note => self.board.note(note),
            placed => self.board.above(|| say(placed)),
        }
    }

    fn error(&mut self, error: &Error) {
        self.board.error(error);
    }

    fn warming_up(&mut self, left: Duration, of: Duration) {
        if !self.shown && !self.board.terminal {
            let seconds = of.as_secs_f64();
            self.note(&format!("pod/{} waiting {seconds:.1} s before the start", self.name));
        }
        self.show(left, of, format!("{:.0} s until the start", left.as_secs_f64().ceil()));
    }

    fn event(&mut self, event: &Event) -> Result<(), Error> {
        if matches!(event, Event::Ended { .. } | Event::Failed { .. }) {
            if !self.length.is_zero() {
                self.board.ended();
            }
            self.finish();
        }
        let in_force = match event {
            Event::InForce { status } => {
                Some((text::what(status), status.remaining_ms, status.age_ms))
            }
            Event::ProcessInForce { status } => {
                Some((status.doing.to_string(), status.remaining_ms, status.age_ms))
            }
            _ => None,
        };
        if let Some((what, remaining_ms, _)) = &in_force {
            let left = Duration::from_millis(*remaining_ms);
            self.length = left;
            self.bar.set_prefix(self.placed(format!("pod/{} {what}", self.name)));
            self.show(left, left, time_left(left));
        }
        if let Event::Calls { counts } = event {
            self.hit = Some(counts.to_string());
        }
        self.print(event)?;
        if let Some((_, _, age_ms)) = in_force {
            self.board.began(Duration::from_millis(age_ms));
        }
        Ok(())
    }

    fn tell(&mut self, text: String, event: &Value) -> Result<(), Error> {
        self.board.tell(self.result, Some(self.placed(text)), event)
    }

    fn outcome(&mut self, outcome: &Result<Exit, Error>) {
        self.board.outcome(self.result, outcome);
    }

    fn time_left(&mut self, left: Duration) {
        if self.length.is_zero() {
            self.length = left;
        }
        let hit = self.hit.as_ref().map_or(String::new(), |hit| format!(", {hit}"));
        self.show(left, self.length, time_left(left) + &hit);
    }

    fn detached(&mut self, ender: &str, remaining_ms: u64, flags: &str) {
        self.finish();
        if self.board.output.is_text() {
            self.note(&format!(
                "detached: {ender} ends it in {} s; `kubectl pod-chaos revert {flags}` ends it now",
                remaining_ms.div_ceil(1000)
            ));
        }
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress {
    fn print(&mut self, event: &Event) -> Result<(), Error> {
        let line = match event {
            // Said by the error that ends the invocation; shown beside the bar, and at the end.
            Event::Failed { .. } | Event::Status { .. } | Event::Calls { .. } => None,
            Event::Probed { .. }
            | Event::Replaced { .. }
            | Event::Found { .. }
            | Event::Retargeted { .. }
            | Event::Kept { .. } => {
                self.note_of(&text::event(&self.name, event));
                None
            }
            _ => Some(self.placed(text::event(&self.name, event))),
        };
        self.board.tell(self.result, line, &json::event(&self.scope, &self.name, event))?;
        match event {
            Event::Ended { packets: Some(0), .. } => {
                self.note_of("warning: no packet that was to be hit came by meanwhile");
            }
            Event::Ended { calls: Some(calls), .. } if calls.unresolved > 0 => {
                let count = calls.unresolved;
                self.note_of(&format!(
                    "warning: {count} of the calls were not hit, because the node does not let the agent see which file \
                     they are about"
                ));
            }
            Event::Ended { calls: Some(calls), .. } if calls.total().1 == 0 => {
                self.note_of("warning: no call that was to be hit was made meanwhile");
            }
            _ => {}
        }
        Ok(())
    }

    /// What is in the event already, for those who do not read it.
    fn note_of(&mut self, event: &str) {
        if self.board.output.is_text() {
            self.note(event);
        }
    }
}

fn time_left(left: Duration) -> String {
    format!("{:.0} s left", left.as_secs_f64().ceil())
}

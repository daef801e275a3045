//! What is told of all pods of an invocation: where the lines go, and the bars on a terminal.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io::{ErrorKind, IsTerminal as _, Write as _, stderr, stdout},
    rc::Rc,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use super::{
    Follow, document, json as as_json,
    progress::Progress,
    speech::{is_quiet, say},
};
use crate::{
    cluster::Scope,
    exit::{Error, Exit},
    plan::{OutputFormat, PodName},
};

/// More pods than these share a bar.
const BARS: usize = 8;

/// All that is told on the way.
pub struct Board {
    /// How data is printed.
    pub output: OutputFormat,
    /// What became of each: its latest event of every kind.
    results: RefCell<Vec<Map<String, Value>>>,
    /// On stderr; hidden where that is no terminal.
    bars: MultiProgress,
    /// Whether that is one.
    pub(super) terminal: bool,
    /// How many faults there are to be.
    faults: Cell<usize>,
    /// Whether it has to be said where each of them is.
    apart: Cell<bool>,
    /// The bar that many share.
    shared: RefCell<Option<ProgressBar>>,
    /// When those that are in force came into force.
    starts: RefCell<Vec<Instant>>,
    ended: Cell<usize>,
    /// What was said that is about all of them.
    said: RefCell<BTreeSet<String>>,
}

impl Board {
    /// Nothing is shown yet.
    pub fn new(output: OutputFormat) -> Rc<Self> {
        let terminal = stderr().is_terminal() && !is_quiet();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Rc::new(Self {
            output,
            results: RefCell::default(),
            bars: MultiProgress::with_draw_target(target),
            terminal,
            faults: Cell::new(1),
            apart: Cell::default(),
            shared: RefCell::default(),
            starts: RefCell::default(),
            ended: Cell::default(),
            said: RefCell::default(),
        })
    }

    /// So many faults are to come, in pods of one place or of several.
    pub fn expect(&self, faults: usize, apart: bool) {
        self.faults.set(faults);
        self.apart.set(apart);
    }

    /// Whether it has to be said where each of them is.
    pub fn are_apart(&self) -> bool {
        self.apart.get()
    }

    /// The follower of one fault.
    pub fn follow(self: &Rc<Self>, scope: &Scope, name: &PodName) -> Box<dyn Follow> {
        let mut results = self.results.borrow_mut();
        results.push(as_json::place(scope, name));
        Box::new(Progress::new(Rc::clone(self), results.len() - 1, scope, name))
    }

    /// Something that is about all of them.
    pub fn tell_of_all(&self, text: &str, event: &Value) -> Result<(), Error> {
        if self.output == OutputFormat::Json {
            return self.line(event);
        }
        self.note(text);
        Ok(())
    }

    /// An event, of which a person reads that line.
    pub(super) fn tell(
        &self,
        result: usize,
        text: Option<String>,
        event: &Value,
    ) -> Result<(), Error> {
        if let (Some(kind), Some(all)) = (event["event"].as_str(), event.as_object()) {
            let own = ["event", "context", "namespace", "pod"];
            let all = all.iter().filter(|(key, _)| !own.contains(&key.as_str()));
            let all = all.map(|(key, value)| (key.clone(), value.clone())).collect();
            self.results.borrow_mut()[result].insert(kind.to_owned(), Value::Object(all));
        }
        match (&self.output, text) {
            (OutputFormat::Text | OutputFormat::Wide, Some(text)) => self.line(&text),
            (OutputFormat::Json, _) => self.line(event),
            _ => Ok(()),
        }
    }

    /// What one has come to.
    pub(super) fn outcome(&self, result: usize, outcome: &Result<Exit, Error>) {
        let (exit, errors) = match outcome {
            Ok(exit) => (exit, &[][..]),
            Err(error) => (&error.exit, &error.messages[..]),
        };
        let mut results = self.results.borrow_mut();
        results[result].insert("result".to_owned(), json!(exit));
        if !errors.is_empty() {
            results[result].insert("errors".to_owned(), json!(errors));
        }
    }

    /// What it has come to, all in all, for those who do not read sentences.
    pub fn close(&self, exit: Exit) -> Result<(), Error> {
        if self.output.is_text() {
            return Ok(());
        }
        let results = self.results.take();
        let report = json!({"event": "report", "result": exit, "results": results});
        let pods = results.iter().filter_map(|one| one["pod"].as_str());
        match self.above(|| document::print(&self.output, &report, pods)) {
            // What has become of it counts, whoever reads of it.
            Err(error) if error.exit == Exit::Done => Ok(()),
            printed => printed,
        }
    }

    /// Prints a line of data. The fault goes on when nobody reads it any more.
    fn line(&self, line: &dyn std::fmt::Display) -> Result<(), Error> {
        match self.above(|| writeln!(stdout(), "{line}")) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Something worth a line, that is not data. What is about all pods is said once.
    pub fn note(&self, text: &str) {
        let about_all = !text.starts_with("pod/") && self.faults.get() > 1;
        if !about_all || self.said.borrow_mut().insert(text.to_owned()) {
            self.above(|| say(text));
        }
    }

    /// An error that does not end the invocation yet.
    pub fn error(&self, error: &Error) {
        let _ = self.above(|| error.print());
    }

    /// Prints above the bars.
    pub(super) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }

    /// A fault has come into force, `age` ago.
    pub(super) fn began(&self, age: Duration) {
        let mut starts = self.starts.borrow_mut();
        starts.extend(Instant::now().checked_sub(age));
        let all = self.faults.get();
        if starts.len() == all && all > 1 {
            let apart = match (starts.iter().min(), starts.iter().max()) {
                (Some(first), Some(last)) => last.duration_since(*first),
                _ => Duration::ZERO,
            };
            drop(starts);
            self.note(&format!("all {all} in force, begun within {} ms", apart.as_millis()));
        }
    }

    pub(super) fn ended(&self) {
        self.ended.set(self.ended.get() + 1);
    }

    /// A bar of one's own, unless there are many.
    pub(super) fn show(&self, bar: &ProgressBar) -> bool {
        if self.terminal && self.faults.get() <= BARS {
            self.bars.add(bar.clone());
        }
        self.faults.get() <= BARS
    }

    /// The time that is left, for those who share a bar.
    pub(super) fn share(&self, left: Duration, of: Duration, message: &str) {
        let mut shared = self.shared.borrow_mut();
        let bar = shared.get_or_insert_with(|| {
            let bar = new_bar();
            if self.terminal { self.bars.add(bar) } else { bar }
        });
        let in_force = self.starts.borrow().len().saturating_sub(self.ended.get());
        bar.set_prefix(format!("{} pods, {in_force} in force", self.faults.get()));
        set(bar, left, of, message.to_owned());
        if in_force == 0 && !self.starts.borrow().is_empty() {
            bar.finish_and_clear();
        }
    }
}

/// One that is not drawn before it is added.
pub(super) fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    match ProgressStyle::with_template("{prefix} {bar:20} {msg}") {
        Ok(style) => bar.with_style(style.progress_chars("━╸ ")),
        Err(_) => bar,
    }
}

pub(super) fn set(bar: &ProgressBar, left: Duration, of: Duration, message: String) {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    bar.set_length(millis(of).max(1));
    bar.set_position(millis(of.saturating_sub(left)));
    bar.set_message(message);
}

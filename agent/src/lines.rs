//! JSON lines: requests from stdin, events to stdout.

use std::{
    io::{self, Write},
    os::fd::AsFd,
};

use nix::{errno::Errno, unistd};
use pod_chaos_protocol::{Event, Failure, FailureKind, Request};

use crate::error::failure;

/// The longest line that is read, in bytes: several times a plan with 10,000 targets of IPv6, each with ports
/// and a name, and far below what an agent may hold.
pub const LINE_MAX: usize = 4 << 20;

/// Puts lines together from what comes in.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
    /// How much of it is known to have no end of line in it: long lines come in many pieces.
    searched: usize,
    /// The line that is coming in is too long: it is thrown away up to its end.
    too_long: bool,
}

impl Lines {
    /// Takes what was read. Complete lines are then to be had from [`Lines::next_line`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        if self.held.len() > LINE_MAX && self.find_end().is_none() {
            self.held.clear();
            self.searched = 0;
            self.too_long = true;
        }
    }

    /// The next complete line, without its end; `Err` for one that was too long.
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        let end = self.find_end()?;
        let mut line: Vec<u8> = self.held.drain(..=end).collect();
        self.searched = 0;
        line.pop();
        let too_long = std::mem::take(&mut self.too_long) || line.len() > LINE_MAX;
        Some(if too_long { Err(TooLong) } else { Ok(line) })
    }

    fn find_end(&mut self) -> Option<usize> {
        let found = self.held[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map(|at| self.searched + at);
        self.searched = end.unwrap_or(self.held.len());
        end
    }

    /// What came in last without an end of line, when nothing more will come.
    pub fn last_line(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        if std::mem::take(&mut self.too_long) {
            return Some(Err(TooLong));
        }
        self.searched = 0;
        let line = std::mem::take(&mut self.held);
        (!line.is_empty()).then_some(Ok(line))
    }
}

/// A line longer than [`LINE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request is at most {LINE_MAX} bytes long")]
pub struct TooLong;

/// Reads a line as a request.
pub fn request(line: Result<Vec<u8>, TooLong>) -> Result<Request, Failure> {
    let bad = |reason: String| {
        failure(FailureKind::BadRequest, format!("the request cannot be read: {reason}"), None)
    };
    let line = line.map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))
}

/// Reads what there is, without waiting for more than there is. `false` at the end of the input.
pub fn read_some(input: impl AsFd, lines: &mut Lines) -> bool {
    let mut buffer = [0; 4096];
    match unistd::read(input, &mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            lines.push(&buffer[..length]);
            true
        }
        Err(errno) => matches!(errno, Errno::EINTR | Errno::EAGAIN),
    }
}

/// Writes an event. Nobody may be listening any more, which changes nothing.
pub fn write(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<Result<Vec<u8>, TooLong>> {
        let mut found: Vec<_> = std::iter::from_fn(|| lines.next_line()).collect();
        found.extend(lines.last_line());
        found
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_come_in(text in "[a-z\n]{0,40}", sizes in proptest::collection::vec(1usize..7, 40)) {
            let (mut lines, mut rest, mut found) = (Lines::default(), text.as_bytes(), Vec::new());
            for size in sizes {
                let (now, later) = rest.split_at(size.min(rest.len()));
                lines.push(now);
                rest = later;
                found.extend(std::iter::from_fn(|| lines.next_line()));
            }
            lines.push(rest);
            found.extend(all(&mut lines));
            let want: Vec<_> = text.lines().map(|line| Ok(line.as_bytes().to_vec())).collect();
            prop_assert_eq!(found, want);
        }

        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = request(Ok(line));
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut lines = Lines::default();
        for _ in 0..3 * LINE_MAX / 4096 {
            lines.push(&[b'x'; 4096]);
            assert!(lines.held.len() <= LINE_MAX + 4096);
        }
        lines.push(b"\n{\"request\":\"status\"}\n");
        assert_eq!(lines.next_line(), Some(Err(TooLong)));
        assert_eq!(request(lines.next_line().unwrap()), Ok(Request::Status));
    }

    #[test]
    fn says_what_is_wrong_with_a_request() {
        let message = |line: &str| request(Ok(line.as_bytes().to_vec())).unwrap_err().message;
        assert!(message("{").starts_with("the request cannot be read: "));
        assert!(message(r#"{"request":"dance"}"#).contains("unknown variant `dance`"));
        let plan = r#"{"id":"0badcafe","running-time":"30s","fault":{"netem":{"netem":{"delay":"1ms"}}},"x":1}"#;
        assert!(
            message(&format!(r#"{{"request":"apply","plan":{plan}}}"#))
                .contains("unknown field `x`")
        );
    }
}

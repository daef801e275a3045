//! What `syscall matrix` writes: metrics as CSV and as JSON lines, and how far it has come.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::metrics::{Place, Sample, csv, csv_head, json};
use crate::exit::{Error, Exit};

/// The files of a folder.
const STATE: &str = "state.json";
const CSV: &str = "metrics.csv";
const JSON: &str = "metrics.jsonl";

/// What is measured: two recordings with the same are one that was interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// `NAMESPACE/POD/CONTAINER`, and of it which processes.
    pub target: String,
    /// The faults in words.
    pub faults: Vec<String>,
    /// How long each is in force.
    pub duration: String,
    /// How long it is only measured before and after.
    pub baseline: String,
    /// How often.
    pub every: String,
    /// What is asked meanwhile.
    pub url: Option<String>,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    course: Course,
    /// So many of its faults.
    done: usize,
    /// How long the files were then: what came after is of a fault that was interrupted.
    csv_bytes: u64,
    json_bytes: u64,
}

/// Files of a folder that are being written.
#[derive(Debug)]
pub struct Recording {
    folder: PathBuf,
    state: State,
    csv: File,
    json: File,
}

/// A part of the time that is spent with one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is to come.
    Before,
    /// It is in force, or about to be.
    During,
    /// It has ended.
    After,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        }
    }
}

impl Recording {
    /// Begins one in this folder, or goes on with the same one.
    pub fn open(folder: &Path, course: Course) -> Result<Self, Error> {
        let cannot = |doing: &str, path: &Path, error: &dyn std::fmt::Display| {
            Error::new(Exit::Refused, format_args!("{doing} {}: {error}", path.display()))
                .hint("--to names another folder")
        };
        fs::create_dir_all(folder).map_err(|error| cannot("making folder", folder, &error))?;
        let path = folder.join(STATE);
        let state = match fs::read(&path) {
            Ok(bytes) => {
                let state: State = serde_json::from_slice(&bytes)
                    .map_err(|error| cannot("reading", &path, &error))?;
                if state.course != course {
                    let why = "it is of other faults, another target, or other times";
                    return Err(cannot("going on with", &path, &why));
                }
                state
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let there = [CSV, JSON].map(|name| folder.join(name));
                if let Some(path) = there.iter().find(|path| path.exists()) {
                    return Err(cannot("writing to", path, &"it is there already"));
                }
                State { course, done: 0, csv_bytes: 0, json_bytes: 0 }
            }
            Err(error) => return Err(cannot("reading", &path, &error)),
        };
        let resume = |name: &str, bytes: u64| {
            let path = folder.join(name);
            open_at(&path, bytes).map_err(|error| cannot("opening", &path, &error))
        };
        let csv = resume(CSV, state.csv_bytes)?;
        let json = resume(JSON, state.json_bytes)?;
        let mut recording = Self { folder: folder.to_owned(), state, csv, json };
        recording.begin().map_err(|error| cannot("writing to", folder, &error))?;
        Ok(recording)
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.state.csv_bytes == 0 {
            writeln!(self.csv, "fault,phase,{}", csv_head())?;
        }
        self.save()
    }

    /// How many faults are done.
    pub const fn done(&self) -> usize {
        self.state.done
    }

    /// What was measured of the next fault.
    pub fn add(&mut self, phase: Phase, place: &Place, sample: &Sample) -> Result<(), Error> {
        let fault = &self.state.course.faults[self.state.done];
        let mut object = json(place, sample);
        object["fault"] = fault.as_str().into();
        object["phase"] = phase.name().into();
        let fault = quoted(fault);
        writeln!(self.csv, "{fault},{},{}", phase.name(), csv(place, sample))
            .and_then(|()| writeln!(self.json, "{object}"))
            .map_err(|error| self.failed(&error))
    }

    /// Notes that the next fault is done.
    pub fn tick_off(&mut self) -> Result<(), Error> {
        self.state.done += 1;
        self.save().map_err(|error| self.failed(&error))
    }

    fn save(&mut self) -> io::Result<()> {
        self.state.csv_bytes = self.csv.stream_position()?;
        self.state.json_bytes = self.json.stream_position()?;
        // In the place of the last one at once, or not at all.
        let mut new = tempfile::NamedTempFile::new_in(&self.folder)?;
        serde_json::to_writer_pretty(&mut new, &self.state)?;
        new.persist(self.folder.join(STATE))?;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Error {
        let folder = self.folder.display();
        Error::new(Exit::Failed, format_args!("writing to {folder}: {error}"))
    }
}

/// A file that is written on after so many bytes.
fn open_at(path: &Path, bytes: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() < bytes {
        return Err(io::Error::other("it is shorter than it was"));
    }
    file.set_len(bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use pod_chaos_protocol::Metrics;

    use super::*;

    fn course(faults: &[&str]) -> Course {
        Course {
            target: "a/b/c".to_owned(),
            faults: faults.iter().map(|&fault| fault.to_owned()).collect(),
            duration: "1s".to_owned(),
            baseline: "1s".to_owned(),
            every: "1s".to_owned(),
            url: None,
        }
    }

    #[test]
    fn what_was_interrupted_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let place =
            Place { context: None, namespace: "a".into(), pod: "b".into(), container: "c".into() };
        let (at, metrics) = (Timestamp::UNIX_EPOCH, Metrics::default());
        let sample = Sample { at, metrics, answer: None };
        let both = ["open: error EIO, fd 3", "read: error EIO"];
        let mut recording = Recording::open(folder.path(), course(&both)).unwrap();
        recording.add(Phase::During, &place, &sample).unwrap();
        recording.tick_off().unwrap();
        recording.add(Phase::Before, &place, &sample).unwrap();
        drop(recording);
        let mut again = Recording::open(folder.path(), course(&both)).unwrap();
        assert_eq!(again.done(), 1);
        again.add(Phase::After, &place, &sample).unwrap();
        again.tick_off().unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let rows: Vec<_> = read("metrics.csv").lines().map(|line| line[..20].to_owned()).collect();
        assert_eq!(rows, ["fault,phase,time,nam", "\"open: error EIO, fd", "read: error EIO,afte"]);
        assert_eq!(read("metrics.jsonl").lines().count(), 2);
        // Done is done, and another one does not write over it.
        assert_eq!(Recording::open(folder.path(), course(&both)).unwrap().done(), 2);
        let other = Recording::open(folder.path(), course(&both[..1])).unwrap_err();
        assert_eq!(other.exit, Exit::Refused);
        // Nor over what is somebody else's.
        fs::remove_file(folder.path().join(STATE)).unwrap();
        let other = Recording::open(folder.path(), course(&both)).unwrap_err();
        assert!(other.messages[0].contains("it is there already"), "{other}");
    }
}

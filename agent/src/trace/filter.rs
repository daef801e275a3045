//! Which invocations of system calls are hit.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind, IoSliceMut},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStringExt as _, fs::FileExt as _},
    },
};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use pod_chaos_protocol::{
    Architecture, Call, Chosen, FileArgument, PathPattern, Percentage, SyscallFault, When,
};

use crate::{emulate::dice::Dice, processes::field, sys::pidfd};

/// What 64-bit programs go by here.
#[cfg(target_arch = "x86_64")]
const HERE: Architecture = Architecture::X86_64;
/// What 64-bit programs go by here.
#[cfg(target_arch = "aarch64")]
const HERE: Architecture = Architecture::Aarch64;

/// A path that begins where the program is (`AT_FDCWD`, linux/fcntl.h).
const WORKING_DIRECTORY: i32 = -100;

/// The conditions of a fault, made ready for a quick look at each call.
#[derive(Debug)]
pub struct Filter {
    /// By number, where in `chosen` it is.
    index: Vec<Option<u16>>,
    chosen: Vec<Chosen>,
    paths: Vec<PathPattern>,
    descriptors: Vec<u32>,
    when: When,
    probability: Percentage,
    seed: Option<u64>,
}

/// What is remembered of a thread.
#[derive(Debug)]
pub struct Memory {
    /// How often it made each of the chosen calls, the other conditions given.
    counts: Vec<u32>,
    dice: Dice,
}

/// What an invocation is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One that is to be hit.
    Hit,
    /// One that is not.
    Spared,
    /// One that is spared because the kernel does not let this process see which file it is about.
    Unresolved,
}

impl Filter {
    /// The filter, and the names that were given of which this architecture has no call.
    pub fn new(fault: &SyscallFault) -> (Self, Vec<Call>) {
        let (numbers, lacking) = fault.calls.numbers(HERE, fault.error.is_some());
        let mut index = Vec::new();
        let mut chosen = Vec::new();
        for (number, one) in numbers {
            let number = number as usize;
            index.resize(index.len().max(number + 1), None);
            index[number] = u16::try_from(chosen.len()).ok();
            chosen.push(one);
        }
        let SyscallFault { paths, descriptors, when, probability, seed, .. } = fault.clone();
        (Self { index, chosen, paths, descriptors, when, probability, seed }, lacking)
    }

    /// The calls, in the order of [`Filter::find`].
    pub fn chosen(&self) -> &[Chosen] {
        &self.chosen
    }

    /// For a thread that has made no call yet.
    pub fn memory(&self) -> Memory {
        let seed = self.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Memory { counts: Vec::new(), dice: Dice::new(seed) }
    }

    /// Which of the chosen calls it is, if it is one.
    pub fn find(&self, number: u64) -> Option<usize> {
        let index = *self.index.get(usize::try_from(number).ok()?)?;
        index.map(usize::from)
    }

    /// Whether this invocation of that one is hit.
    pub fn judge(
        &self,
        memory: &mut Memory,
        thread: Pid,
        index: usize,
        arguments: &[u64; 6],
    ) -> Verdict {
        let files = self.chosen[index].files;
        if !self.descriptors.is_empty() && !self.has_descriptor(files, arguments) {
            return Verdict::Spared;
        }
        if !self.paths.is_empty() {
            match self.has_path(thread, files, arguments) {
                Some(true) => {}
                Some(false) => return Verdict::Spared,
                None => return Verdict::Unresolved,
            }
        }
        if !self.when.is_always() {
            memory.counts.resize(self.chosen.len(), 0);
            let count = &mut memory.counts[index];
            *count = count.saturating_add(1);
            if !self.when.matches(*count) {
                return Verdict::Spared;
            }
        }
        let falls =
            self.probability == Percentage::ALL || memory.dice.throw() < self.probability.scaled();
        if falls { Verdict::Hit } else { Verdict::Spared }
    }

    fn has_descriptor(&self, files: &[FileArgument], arguments: &[u64; 6]) -> bool {
        let descriptor = |file: &FileArgument| match *file {
            FileArgument::Path(_) => None,
            FileArgument::At(index, _) | FileArgument::Descriptor(index) => {
                u32::try_from(descriptor(arguments, index)).ok()
            }
        };
        files.iter().filter_map(descriptor).any(|one| self.descriptors.contains(&one))
    }

    /// `None` when it cannot be told.
    fn has_path(&self, thread: Pid, files: &[FileArgument], arguments: &[u64; 6]) -> Option<bool> {
        let mut none = Some(false);
        for file in files {
            match path(thread, *file, arguments) {
                Ok(path) if self.paths.iter().any(|one| one.matches(&path)) => return Some(true),
                Ok(_) => {}
                Err(errno) if names_none(errno) => {}
                Err(_) => none = None,
            }
        }
        none
    }
}

/// An argument that is a descriptor: the kernel takes 32 bits of it.
#[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
const fn descriptor(arguments: &[u64; 6], index: u8) -> i32 {
    (arguments[index as usize] as u32).cast_signed()
}

/// Whether it is because of the argument that no path is found: its address or descriptor is none, or no longer (`EIO` is
/// what `/proc/PID/mem` says of such an address). The call will fail for the same reason.
const fn names_none(errno: Errno) -> bool {
    use Errno::{EBADF, EFAULT, EIO, ENAMETOOLONG, ENOENT, ESRCH};
    matches!(errno, EBADF | EFAULT | EIO | ENAMETOOLONG | ENOENT | ESRCH)
}

/// The path of the file that an argument names.
fn path(thread: Pid, file: FileArgument, arguments: &[u64; 6]) -> Result<Vec<u8>, Errno> {
    let (directory, address) = match file {
        FileArgument::Descriptor(index) => return open_file(thread, descriptor(arguments, index)),
        FileArgument::Path(index) => (WORKING_DIRECTORY, arguments[usize::from(index)]),
        FileArgument::At(directory, index) => {
            (descriptor(arguments, directory), arguments[usize::from(index)])
        }
    };
    let name = read_string(thread, address)?;
    if name.starts_with(b"/") {
        return Ok(normal(&name));
    }
    let mut path = open_file(thread, directory)?;
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(&name);
    }
    Ok(normal(&path))
}

/// Reads a string that ends with a zero byte from a thread's memory, at most as many bytes as a path can have.
fn read_string(thread: Pid, address: u64) -> Result<Vec<u8>, Errno> {
    const PAGE: usize = 4096;
    let mut text = Vec::with_capacity(256);
    let mut at = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    while text.len() < PathPattern::LENGTH_MAX {
        // No further than to the end of a page: the next may be none of the program's.
        let mut piece = [0u8; 256];
        let length = (PAGE - at % PAGE).min(piece.len());
        let read = read_memory(thread, at, &mut piece[..length])?;
        let piece = &piece[..read];
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&piece[..end]);
            return Ok(text);
        }
        text.extend_from_slice(piece);
        at = at.checked_add(read).filter(|_| read > 0).ok_or(Errno::EFAULT)?;
    }
    Err(Errno::ENAMETOOLONG)
}

/// Reads a part of a thread's memory; how much of it.
///
/// Each of the two ways is closed to some: containerd's seccomp profile keeps process_vm_readv(2) from containers
/// without SYS_PTRACE, and with no more than that another user's `/proc/PID/mem` cannot be opened.
fn read_memory(thread: Pid, address: usize, into: &mut [u8]) -> Result<usize, Errno> {
    let remote = RemoteIoVec { base: address, len: into.len() };
    match process_vm_readv(thread, &mut [IoSliceMut::new(into)], &[remote]) {
        Err(Errno::EPERM | Errno::ENOSYS) => File::open(format!("/proc/{thread}/mem"))
            .and_then(|memory| memory.read_at(into, address as u64))
            .map_err(|error| errno(&error)),
        read => read,
    }
}

/// The path of a file that a thread has open, or of the directory where it is.
fn open_file(thread: Pid, descriptor: i32) -> Result<Vec<u8>, Errno> {
    let path = match descriptor {
        WORKING_DIRECTORY => fs::read_link(format!("/proc/{thread}/cwd")),
        0.. => match fs::read_link(format!("/proc/{thread}/fd/{descriptor}")) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let file = borrowed(thread, descriptor)?;
                fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
            }
            path => path,
        },
        _ => return Err(Errno::EBADF),
    };
    path.map(|path| path.into_os_string().into_vec()).map_err(|error| errno(&error))
}

/// What the kernel has said.
fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// What a thread has open, as a descriptor of this process. For another user's, whose `/proc/PID/fd` is closed to one
/// that may do no more than trace.
fn borrowed(thread: Pid, descriptor: i32) -> Result<OwnedFd, Errno> {
    let of = pidfd::thread(thread).or_else(|_| {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        let process = field(&status, "Tgid").and_then(|process| process.parse().ok());
        pidfd::process(process.map_or(thread, Pid::from_raw))
    });
    pidfd::file(&of?, descriptor)
}

/// Without `.`, `..` and double slashes.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut normal = Vec::with_capacity(path.len());
    for part in parts {
        normal.push(b'/');
        normal.extend_from_slice(part);
    }
    if normal.is_empty() { b"/".to_vec() } else { normal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: &str) -> Filter {
        Filter::new(&serde_json::from_str(json).unwrap()).0
    }

    #[test]
    fn paths_are_made_normal() {
        for (path, want) in [
            ("/a/./b//c/../d", "/a/b/d"),
            ("/..", "/"),
            ("/", "/"),
            ("/a/", "/a"),
            ("/../../x", "/x"),
        ] {
            assert_eq!(normal(path.as_bytes()), want.as_bytes(), "{path}");
        }
    }

    #[test]
    fn calls_are_found_by_their_number() {
        let filter = filter(r#"{"calls":["openat","read"],"error":"EIO"}"#);
        let names = |number| filter.find(number).map(|index| filter.chosen()[index].name);
        let all: Vec<_> = (0..1000).filter_map(names).collect();
        assert_eq!(all.len(), 2);
        assert!(all.contains(&"read") && all.contains(&"openat"));
        assert_eq!(filter.find(u64::MAX), None);
    }

    #[test]
    fn each_call_of_each_thread_counts_for_itself() {
        let filter = filter(r#"{"calls":["read","write"],"error":"EIO","when":"2..3"}"#);
        let none = [0; 6];
        let (mut one, mut other) = (filter.memory(), filter.memory());
        let mut hits = |index| filter.judge(&mut one, Pid::this(), index, &none) == Verdict::Hit;
        assert_eq!(
            [hits(0), hits(0), hits(1), hits(0), hits(0), hits(1)],
            [false, true, false, true, false, true]
        );
        assert_eq!(filter.judge(&mut other, Pid::this(), 0, &none), Verdict::Spared);
    }

    #[test]
    fn the_same_seed_hits_the_same_calls() {
        let filter = filter(r#"{"calls":["read"],"error":"EIO","probability":"25%","seed":7}"#);
        let hits = || {
            let mut memory = filter.memory();
            let mut hit = || filter.judge(&mut memory, Pid::this(), 0, &[0; 6]) == Verdict::Hit;
            (0..4000).map(|_| hit()).collect::<Vec<_>>()
        };
        let first = hits();
        assert_eq!(first, hits());
        // Six standard deviations of a binomial distribution.
        assert!(first.iter().filter(|hit| **hit).count().abs_diff(1000) < 165);
    }

    #[test]
    fn descriptors_are_compared_as_the_kernel_takes_them() {
        let filter = filter(r#"{"calls":["read"],"error":"EIO","descriptors":[3]}"#);
        let mut memory = filter.memory();
        let mut hits = |first: u64| {
            filter.judge(&mut memory, Pid::this(), 0, &[first, 0, 0, 0, 0, 0]) == Verdict::Hit
        };
        assert!(hits(3) && hits(0xffff_ffff_0000_0003));
        assert!(!hits(4) && !hits(u64::MAX));
    }

    #[test]
    fn files_of_this_process_are_found_by_path() {
        let own = Pid::this();
        let name = c"some/../file";
        let arguments = [0, name.as_ptr().expose_provenance() as u64, 0, 0, 0, 0];
        let here = std::env::current_dir().unwrap().join("file");
        let at = [u64::from(WORKING_DIRECTORY.cast_unsigned()), arguments[1], 0, 0, 0, 0];
        for found in
            [path(own, FileArgument::Path(1), &arguments), path(own, FileArgument::At(0, 1), &at)]
        {
            assert_eq!(found.unwrap(), here.as_os_str().as_encoded_bytes());
        }
        for of_none in [FileArgument::Path(0), FileArgument::Descriptor(0)] {
            let errno = path(own, of_none, &[u64::MAX; 6]).unwrap_err();
            assert!(names_none(errno), "{errno}");
        }
    }
}

//! Files that other processes have open (pidfd_open(2), pidfd_getfd(2)).

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::{errno::Errno, libc, unistd::Pid};

/// `PIDFD_THREAD` (linux/pidfd.h, from Linux 6.9 on): a thread is meant, and not a process.
const THREAD: libc::c_int = libc::O_EXCL;

/// A process, or `EINVAL` for the id of another thread than its first one.
pub fn process(process: Pid) -> Result<OwnedFd, Errno> {
    open(process, 0)
}

/// A thread. `EINVAL` where the kernel has descriptors of processes only.
pub fn thread(thread: Pid) -> Result<OwnedFd, Errno> {
    open(thread, THREAD)
}

fn open(pid: Pid, flags: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel takes two numbers, and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), flags) };
    owned(result)
}

/// Another descriptor for what that process has open as `descriptor`: `EBADF` when it has nothing there, `EPERM` when
/// this process may not trace it, `ENOSYS` before Linux 5.6.
pub fn file(of: &OwnedFd, descriptor: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel takes three numbers, and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, of.as_raw_fd(), descriptor, 0) };
    owned(result)
}

fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let descriptor = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for the caller, so nothing else in this process owns or closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

//! System calls: what strace's sets hold, what the C library calls in a call's stead, and which arguments
//! name files. Their numbers are the crate `syscalls`'.

use super::calls::Set;

/// strace's sets (`-e trace=%file` and so on), as strace 6.1 has them on x86-64. AArch64 has some of them less.
#[rustfmt::skip]
pub(super) const SETS: [(Set, &[&str]); 9] = [
    (Set::File, &[
        "open", "stat", "lstat", "access", "execve", "truncate", "getcwd", "chdir", "rename", "mkdir",
        "rmdir", "creat", "link", "unlink", "symlink", "readlink", "chmod", "chown", "lchown", "utime",
        "mknod", "uselib", "statfs", "pivot_root", "chroot", "acct", "mount", "umount2", "swapon",
        "swapoff", "quotactl", "setxattr", "lsetxattr", "getxattr", "lgetxattr", "listxattr",
        "llistxattr", "removexattr", "lremovexattr", "utimes", "inotify_add_watch", "openat", "mkdirat",
        "mknodat", "fchownat", "futimesat", "newfstatat", "unlinkat", "renameat", "linkat", "symlinkat",
        "readlinkat", "fchmodat", "faccessat", "utimensat", "fanotify_mark", "name_to_handle_at",
        "renameat2", "execveat", "statx", "open_tree", "move_mount", "fsconfig", "fspick", "openat2",
        "faccessat2", "mount_setattr",
    ]),
    (Set::Desc, &[
        "read", "write", "open", "close", "fstat", "poll", "lseek", "mmap", "ioctl", "pread64",
        "pwrite64", "readv", "writev", "pipe", "select", "dup", "dup2", "sendfile", "fcntl", "flock",
        "fsync", "fdatasync", "ftruncate", "getdents", "fchdir", "creat", "fchmod", "fchown", "fstatfs",
        "readahead", "fsetxattr", "fgetxattr", "flistxattr", "fremovexattr", "epoll_create", "getdents64",
        "fadvise64", "epoll_wait", "epoll_ctl", "mq_open", "mq_timedsend", "mq_timedreceive", "mq_notify",
        "mq_getsetattr", "inotify_init", "inotify_add_watch", "inotify_rm_watch", "openat", "mkdirat",
        "mknodat", "fchownat", "futimesat", "newfstatat", "unlinkat", "renameat", "linkat", "symlinkat",
        "readlinkat", "fchmodat", "faccessat", "pselect6", "ppoll", "splice", "tee", "sync_file_range",
        "vmsplice", "utimensat", "epoll_pwait", "signalfd", "timerfd_create", "eventfd", "fallocate",
        "timerfd_settime", "timerfd_gettime", "signalfd4", "eventfd2", "epoll_create1", "dup3", "pipe2",
        "inotify_init1", "preadv", "pwritev", "perf_event_open", "fanotify_init", "fanotify_mark",
        "name_to_handle_at", "open_by_handle_at", "syncfs", "setns", "finit_module", "renameat2",
        "memfd_create", "kexec_file_load", "bpf", "execveat", "userfaultfd", "copy_file_range", "preadv2",
        "pwritev2", "statx", "pidfd_send_signal", "io_uring_setup", "io_uring_enter", "io_uring_register",
        "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "pidfd_open", "openat2",
        "pidfd_getfd", "faccessat2", "process_madvise", "epoll_pwait2", "mount_setattr", "quotactl_fd",
        "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "memfd_secret",
        "process_mrelease",
    ]),
    (Set::Process, &[
        "clone", "fork", "vfork", "execve", "exit", "wait4", "kill", "rt_sigqueueinfo", "tkill",
        "exit_group", "tgkill", "waitid", "rt_tgsigqueueinfo", "execveat", "pidfd_send_signal", "clone3",
    ]),
    (Set::Network, &[
        "sendfile", "socket", "connect", "accept", "sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown",
        "bind", "listen", "getsockname", "getpeername", "socketpair", "setsockopt", "getsockopt",
        "getpmsg", "putpmsg", "accept4", "recvmmsg", "sendmmsg",
    ]),
    (Set::Signal, &[
        "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "pause", "kill", "rt_sigpending",
        "rt_sigtimedwait", "rt_sigqueueinfo", "rt_sigsuspend", "sigaltstack", "tkill", "tgkill",
        "signalfd", "signalfd4", "rt_tgsigqueueinfo", "pidfd_send_signal", "io_uring_enter",
    ]),
    (Set::Ipc, &[
        "shmget", "shmat", "shmctl", "semget", "semop", "semctl", "shmdt", "msgget", "msgsnd", "msgrcv",
        "msgctl", "semtimedop",
    ]),
    (Set::Memory, &[
        "mmap", "mprotect", "munmap", "brk", "mremap", "msync", "mincore", "madvise", "shmat", "shmdt",
        "mlock", "munlock", "mlockall", "munlockall", "io_setup", "io_destroy", "remap_file_pages",
        "mbind", "set_mempolicy", "get_mempolicy", "migrate_pages", "move_pages", "mlock2",
        "pkey_mprotect", "io_uring_register", "set_mempolicy_home_node",
    ]),
    (Set::Creds, &[
        "getuid", "getgid", "setuid", "setgid", "geteuid", "getegid", "setreuid", "setregid", "getgroups",
        "setgroups", "setresuid", "getresuid", "setresgid", "getresgid", "setfsuid", "setfsgid", "capget",
        "capset", "prctl",
    ]),
    (Set::Clock, &[
        "gettimeofday", "adjtimex", "settimeofday", "time", "clock_settime", "clock_gettime",
        "clock_getres", "clock_adjtime",
    ]),
];

/// Calls that do not come back, or that have nothing to fail to: an error would leave the program nowhere. Sets
/// do without them when there is an error.
pub(super) const WITHOUT_RESULT: [&str; 3] = ["exit", "exit_group", "rt_sigreturn"];

/// Names that stand for more than themselves: the C library's functions of that name end up in any of these,
/// by library, version and architecture.
pub(super) const FAMILIES: &[(&str, &[&str])] = &[
    ("open", &["open", "openat", "openat2", "creat"]),
    ("stat", &["stat", "newfstatat", "statx"]),
    ("lstat", &["lstat", "newfstatat", "statx"]),
    ("access", &["access", "faccessat", "faccessat2"]),
    ("mkdir", &["mkdir", "mkdirat"]),
    ("mknod", &["mknod", "mknodat"]),
    ("rmdir", &["rmdir", "unlinkat"]),
    ("unlink", &["unlink", "unlinkat"]),
    ("rename", &["rename", "renameat", "renameat2"]),
    ("link", &["link", "linkat"]),
    ("symlink", &["symlink", "symlinkat"]),
    ("readlink", &["readlink", "readlinkat"]),
    ("chmod", &["chmod", "fchmodat", "fchmodat2"]),
    ("chown", &["chown", "fchownat"]),
    ("utime", &["utime", "utimes", "futimesat", "utimensat"]),
    ("getdents", &["getdents", "getdents64"]),
    ("pread", &["pread64"]),
    ("pwrite", &["pwrite64"]),
    ("poll", &["poll", "ppoll"]),
    ("select", &["select", "pselect6"]),
    ("epoll_create", &["epoll_create", "epoll_create1"]),
    ("epoll_wait", &["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
    ("accept", &["accept", "accept4"]),
    ("send", &["sendto"]),
    ("recv", &["recvfrom"]),
    ("pipe", &["pipe", "pipe2"]),
    ("dup2", &["dup2", "dup3"]),
    ("eventfd", &["eventfd", "eventfd2"]),
    ("signalfd", &["signalfd", "signalfd4"]),
    ("inotify_init", &["inotify_init", "inotify_init1"]),
    ("fork", &["fork", "vfork", "clone", "clone3"]),
    ("vfork", &["vfork", "clone", "clone3"]),
    ("wait", &["wait4"]),
    ("waitpid", &["wait4"]),
];

/// An argument that names a file, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileArgument {
    /// The address of a path, taken from the working directory.
    Path(u8),
    /// A descriptor of a directory, and the address of a path that is taken from there; an empty path is the
    /// descriptor's own file.
    At(u8, u8),
    /// A descriptor.
    Descriptor(u8),
}
use FileArgument::{At, Descriptor, Path};

/// Arguments that name files, as the calls' man pages (section 2) have them.
#[rustfmt::skip]
pub(super) const FILE_ARGUMENTS: &[(&[FileArgument], &[&str])] = &[
    (&[Path(0)], &[
        "open", "stat", "lstat", "access", "execve", "truncate", "chdir", "mkdir", "rmdir", "creat",
        "unlink", "readlink", "chmod", "chown", "lchown", "utime", "utimes", "mknod", "uselib", "statfs",
        "chroot", "acct", "swapon", "swapoff", "setxattr", "lsetxattr", "getxattr", "lgetxattr",
        "listxattr", "llistxattr", "removexattr", "lremovexattr", "umount2",
    ]),
    (&[Path(1)], &["symlink", "quotactl"]),
    (&[Path(0), Path(1)], &["rename", "link", "pivot_root", "mount"]),
    (
        &[At(0, 1)],
        &[
            "openat", "mkdirat", "mknodat", "fchownat", "futimesat", "newfstatat", "unlinkat", "readlinkat",
            "fchmodat", "fchmodat2", "faccessat", "utimensat", "name_to_handle_at", "execveat", "statx",
            "open_tree", "fspick", "openat2", "faccessat2", "mount_setattr",
        ],
    ),
    (&[At(1, 2)], &["symlinkat"]),
    (&[At(0, 1), At(2, 3)], &["renameat", "renameat2", "linkat", "move_mount"]),
    (&[Descriptor(0), Path(1)], &["inotify_add_watch"]),
    (&[Descriptor(0), At(3, 4)], &["fanotify_mark"]),
    (&[Descriptor(0)], &[
        "read", "write", "close", "fstat", "lseek", "ioctl", "pread64", "pwrite64", "readv", "writev",
        "dup", "fcntl", "flock", "fsync", "fdatasync", "ftruncate", "getdents", "getdents64", "fchdir",
        "fchmod", "fchown", "fstatfs", "readahead", "fsetxattr", "fgetxattr", "flistxattr",
        "fremovexattr", "fadvise64", "epoll_wait", "epoll_pwait", "epoll_pwait2", "mq_timedsend",
        "mq_timedreceive", "mq_notify", "mq_getsetattr", "inotify_rm_watch", "sync_file_range",
        "vmsplice", "fallocate", "timerfd_settime", "timerfd_gettime", "preadv", "pwritev", "preadv2",
        "pwritev2", "syncfs", "setns", "finit_module", "signalfd", "signalfd4", "pidfd_send_signal",
        "pidfd_getfd", "process_madvise", "process_mrelease", "open_by_handle_at", "io_uring_enter",
        "io_uring_register", "fsconfig", "fsmount", "landlock_add_rule", "landlock_restrict_self",
        "quotactl_fd", "bind", "connect", "listen", "accept", "accept4", "sendto", "recvfrom", "sendmsg",
        "recvmsg", "sendmmsg", "recvmmsg", "shutdown", "getsockname", "getpeername", "setsockopt",
        "getsockopt", "cachestat",
    ]),
    (&[Descriptor(0), Descriptor(1)], &["dup2", "dup3", "sendfile", "tee", "kexec_file_load"]),
    (&[Descriptor(0), Descriptor(2)], &["splice", "copy_file_range", "epoll_ctl"]),
    (&[Descriptor(3)], &["perf_event_open"]),
    (&[Descriptor(4)], &["mmap"]),
];

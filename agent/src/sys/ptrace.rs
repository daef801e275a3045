//! Threads of other processes, stopped at their system calls (ptrace(2), linux/ptrace.h).
//!
//! What a thread has seized only that thread may ask about. Every function takes a thread's id; one that is
//! not stopped, or not ours, is `ESRCH`: there is no way to harm it from here.

use nix::{errno::Errno, libc, unistd::Pid};

/// linux/ptrace.h, as all architectures have them.
const GETEVENTMSG: libc::c_long = 0x4201;
#[cfg(target_arch = "aarch64")]
const GETREGSET: libc::c_long = 0x4204;
#[cfg(target_arch = "aarch64")]
const SETREGSET: libc::c_long = 0x4205;
const SEIZE: libc::c_long = 0x4206;
const INTERRUPT: libc::c_long = 0x4207;
const LISTEN: libc::c_long = 0x4208;
const GET_SYSCALL_INFO: libc::c_long = 0x420e;
const SYSCALL: libc::c_long = 24;
const DETACH: libc::c_long = 17;

/// `PTRACE_O_TRACESYSGOOD`, `…FORK`, `…VFORK`, `…CLONE`, `…EXEC`.
const OPTIONS: usize = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4;
/// `PTRACE_EVENT_EXEC`, `PTRACE_EVENT_STOP`.
const EVENT_EXEC: i32 = 4;
const EVENT_STOP: i32 = 128;
/// What marks the stop at a system call, by the option.
const SYSGOOD: i32 = libc::SIGTRAP | 0x80;

/// What a thread does that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has ended.
    Ended,
    /// It stands before or after a system call.
    Syscall,
    /// It is about to get this signal, and does when it is resumed with it.
    Signal(i32),
    /// It stands because its process was stopped, by SIGSTOP or its kin.
    GroupStop,
    /// It has become another program; its id was this one.
    Exec(Pid),
    /// It stands for another reason: it was interrupted, is new, or has made another.
    Other,
}

/// What a thread that stands at a system call is about to do, or has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Before it.
    Entry {
        /// `AUDIT_ARCH_…` (linux/audit.h).
        architecture: u32,
        /// The call's number.
        number: u64,
        /// As the program gave them.
        arguments: [u64; 6],
    },
    /// After it.
    Exit,
    /// At none.
    Nowhere,
}

/// `AUDIT_ARCH_…` of 64-bit programs here.
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURE: u32 = 0xc000_003e;
/// `AUDIT_ARCH_…` of 64-bit programs here.
#[cfg(target_arch = "aarch64")]
pub const ARCHITECTURE: u32 = 0xc000_00b7;

/// Seizes a thread, and with it all that it and they will make. It runs on.
pub fn seize(thread: Pid) -> Result<(), Errno> {
    request(SEIZE, thread, 0, OPTIONS)
}

/// Has a thread stop, which is seen as [`Change::Other`].
pub fn interrupt(thread: Pid) -> Result<(), Errno> {
    request(INTERRUPT, thread, 0, 0)
}

/// Has a stopped thread go on to its next system call, with this signal or none (0).
pub fn resume(thread: Pid, signal: i32) -> Result<(), Errno> {
    request(SYSCALL, thread, 0, usize::try_from(signal).unwrap_or(0))
}

/// Leaves a thread stopped for as long as its process is.
pub fn listen(thread: Pid) -> Result<(), Errno> {
    request(LISTEN, thread, 0, 0)
}

/// Lets a stopped thread go, with this signal or none (0).
pub fn detach(thread: Pid, signal: i32) -> Result<(), Errno> {
    request(DETACH, thread, 0, usize::try_from(signal).unwrap_or(0))
}

fn request(what: libc::c_long, thread: Pid, address: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: none of the requests above has the kernel read or write memory of this process: address and
    // data are numbers.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, what, thread.as_raw(), address, data) };
    Errno::result(result).map(drop)
}

/// Waits until one of this thread's tracees changes. `EINTR` by a signal, `ECHILD` when there are none.
pub fn wait() -> Result<(Pid, Change), Errno> {
    let mut status = 0;
    // SAFETY: the pointer is to an int that lives through the call.
    let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    let thread = Pid::from_raw(Errno::result(thread)?);
    if !libc::WIFSTOPPED(status) {
        return Ok((thread, Change::Ended));
    }
    let change = match (status >> 16, libc::WSTOPSIG(status)) {
        (0, SYSGOOD) => Change::Syscall,
        (0, signal) => Change::Signal(signal),
        (EVENT_STOP, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) => {
            Change::GroupStop
        }
        (EVENT_EXEC, _) => Change::Exec(message(thread)?),
        _ => Change::Other,
    };
    Ok((thread, change))
}

/// The id that a thread had before it became another program.
fn message(thread: Pid) -> Result<Pid, Errno> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one unsigned long to the pointer, which is to one that lives through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_ptrace, GETEVENTMSG, thread.as_raw(), 0usize, &raw mut message)
    };
    Errno::result(result)?;
    Ok(i32::try_from(message).map_or(thread, Pid::from_raw))
}

/// `struct ptrace_syscall_info` up to the entry's arguments, which is the longest of its variants that we read.
#[repr(C)]
#[derive(Default)]
struct SyscallInfo {
    op: u8,
    padding: [u8; 3],
    architecture: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    number: u64,
    arguments: [u64; 6],
}

/// Where a thread stands that has stopped at a system call. A kernel without `CONFIG_HAVE_ARCH_TRACEHOOK`
/// (user-mode Linux) does not know whether that is before it or after it; it is then said to be before, which
/// the caller has to know better.
pub fn at(thread: Pid) -> Result<At, Errno> {
    match info(thread) {
        Err(Errno::EIO) => entry_by_registers(thread),
        at => at,
    }
}

fn info(thread: Pid) -> Result<At, Errno> {
    let mut info = SyscallInfo::default();
    // SAFETY: the kernel writes at most as many bytes as it is told to, the size of the structure, which lives
    // through the call and holds nothing but numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            GET_SYSCALL_INFO,
            thread.as_raw(),
            size_of::<SyscallInfo>(),
            &raw mut info,
        )
    };
    Errno::result(result)?;
    let SyscallInfo { op, architecture, number, arguments, .. } = info;
    // PTRACE_SYSCALL_INFO_ENTRY, PTRACE_SYSCALL_INFO_EXIT.
    Ok(match op {
        1 => At::Entry { architecture, number, arguments },
        2 => At::Exit,
        _ => At::Nowhere,
    })
}

#[cfg(target_arch = "x86_64")]
fn entry_by_registers(thread: Pid) -> Result<At, Errno> {
    const GETREGS: libc::c_long = 12;
    /// `__USER_CS` (asm/segment.h): the code segment of 64-bit programs.
    const CODE_64: u64 = 0x33;
    // SAFETY: all zeros is a valid user_regs_struct: it holds nothing but numbers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one user_regs_struct to the pointer, which is to one that lives through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_ptrace, GETREGS, thread.as_raw(), 0usize, &raw mut registers)
    };
    Errno::result(result)?;
    let libc::user_regs_struct { cs, orig_rax, rdi, rsi, rdx, r10, r8, r9, .. } = registers;
    let architecture = if cs == CODE_64 { ARCHITECTURE } else { 0 };
    Ok(At::Entry { architecture, number: orig_rax, arguments: [rdi, rsi, rdx, r10, r8, r9] })
}

#[cfg(target_arch = "aarch64")]
fn entry_by_registers(_: Pid) -> Result<At, Errno> {
    Err(Errno::EIO)
}

/// Has a thread that stands before a system call not make it, and find this error. A filter (seccomp(2)) of
/// the program's own still sees a call, with the number -1, and may have it fail with another error:
/// [`fail`] is to be called again after it.
///
/// Who calls it may be killed between the two steps. The first leaves the call what it was: what it returns goes
/// where the error is now.
#[cfg(target_arch = "x86_64")]
pub fn skip(thread: Pid, error: i32) -> Result<(), Errno> {
    fail(thread, error)?;
    set_number(thread)
}

/// Has a thread that stands before a system call not make it, and find this error, as above. What is returned
/// goes where the first argument is, which a call that is made still needs.
#[cfg(target_arch = "aarch64")]
pub fn skip(thread: Pid, error: i32) -> Result<(), Errno> {
    set_number(thread)?;
    fail(thread, error)
}

/// Has a thread that stands at a system call find this error.
#[cfg(target_arch = "x86_64")]
pub fn fail(thread: Pid, error: i32) -> Result<(), Errno> {
    poke(thread, std::mem::offset_of!(libc::user_regs_struct, rax), -i64::from(error))
}

#[cfg(target_arch = "x86_64")]
fn set_number(thread: Pid) -> Result<(), Errno> {
    poke(thread, std::mem::offset_of!(libc::user_regs_struct, orig_rax), -1)
}

/// Sets one register, by its place in `struct user`, which begins with the registers (sys/user.h).
#[cfg(target_arch = "x86_64")]
fn poke(thread: Pid, offset: usize, value: i64) -> Result<(), Errno> {
    const POKEUSER: libc::c_long = 6;
    // SAFETY: the kernel takes offset and value as numbers, and touches no memory of this process.
    let result =
        unsafe { libc::syscall(libc::SYS_ptrace, POKEUSER, thread.as_raw(), offset, value) };
    Errno::result(result).map(drop)
}

/// Has a thread that stands at a system call find this error.
#[cfg(target_arch = "aarch64")]
pub fn fail(thread: Pid, error: i32) -> Result<(), Errno> {
    // NT_PRSTATUS (linux/elf.h): struct user_pt_regs, 34 numbers, the first is x0.
    const GENERAL: usize = 1;
    let mut registers = [0u64; 34];
    registers_of(GETREGSET, thread, GENERAL, &mut registers)?;
    registers[0] = i64::from(-error).cast_unsigned();
    registers_of(SETREGSET, thread, GENERAL, &mut registers)
}

#[cfg(target_arch = "aarch64")]
fn set_number(thread: Pid) -> Result<(), Errno> {
    // NT_ARM_SYSTEM_CALL (linux/elf.h): one int.
    const SYSTEM_CALL: usize = 0x404;
    registers_of(SETREGSET, thread, SYSTEM_CALL, &mut [-1i32])
}

/// Reads or writes a set of registers.
#[cfg(target_arch = "aarch64")]
fn registers_of<T>(
    what: libc::c_long,
    thread: Pid,
    set: usize,
    registers: &mut [T],
) -> Result<(), Errno> {
    let mut part =
        libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size_of_val(registers) };
    // SAFETY: the iovec is of `registers`, which live through the call, are numbers, and are no longer than it
    // says; the kernel reads or writes no more.
    let result =
        unsafe { libc::syscall(libc::SYS_ptrace, what, thread.as_raw(), set, &raw mut part) };
    Errno::result(result).map(drop)
}

//! The agent of `kubectl pod-chaos`: applies, verifies and reverts faults inside a pod.
//!
//! It runs as a static binary in an ephemeral container, with `NET_ADMIN` and `NET_RAW` and nothing
//! else, in the pod's network namespace. [`wait`] is that container's main process, which may bring a first
//! plan with it ([`carried`]); [`serve`] is run through `pods/exec`, once per request. Neither keeps a file: what is in force is read from the
//! kernel ([`status`]), and the kernel ends it ([`fault::gate`]).
//!
//! A library only so that its tests can reach the parts.
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

pub mod anchor;
pub mod apply;
pub mod backend;
pub mod carried;
pub mod carry;
pub mod cgroup;
pub mod clock;
pub mod disk;
pub mod emulate;
pub mod error;
pub mod fault;
pub mod fuzz;
pub mod interface;
pub mod kernel;
pub mod lines;
pub mod lock;
pub mod nameless;
pub mod netlink;
pub mod observe;
pub mod overlap;
pub mod presence;
pub mod probe;
pub mod processes;
pub mod resolve;
pub mod retarget;
pub mod role;
pub mod serve;
pub mod status;
pub mod stop;
pub mod sweep;
pub mod sys;
pub mod trace;
pub mod wait;
pub mod waiting;

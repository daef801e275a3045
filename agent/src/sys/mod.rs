//! The kernel where no crate has a safe way to it: the only `unsafe` code of the agent, a few lines each,
//! behind functions that cannot be misused.
#![allow(unsafe_code)]

pub mod alarm;
pub mod packet;
pub mod pidfd;
pub mod ptrace;

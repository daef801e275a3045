//! The agent against a real kernel: its own binary in network namespaces made for each test, judged by
//! `ping`, `ip`, `tc`, `nft` and by the time of packets.
//!
//! Needs root, and a kernel with what the fault is made of; a test that cannot run says why and counts as
//! ignored. The test binary finds everything it needs by absolute path and writes nowhere: it can be run
//! in another kernel that sees the same files. `POD_CHAOS_AGENT` names another build of the agent,
//! `POD_CHAOS_SHARE=1/2` the share of the tests that is to be run.
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(target_os = "linux")]
mod anchor;
#[cfg(target_os = "linux")]
mod burn;
#[cfg(target_os = "linux")]
mod carried;
#[cfg(target_os = "linux")]
mod container;
#[cfg(target_os = "linux")]
mod deaths;
#[cfg(target_os = "linux")]
mod delay;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod emulator;
#[cfg(target_os = "linux")]
mod ending;
#[cfg(target_os = "linux")]
mod held;
#[cfg(target_os = "linux")]
mod ingress;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod name_server;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod observe;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod partition;
#[cfg(target_os = "linux")]
mod pause;
#[cfg(target_os = "linux")]
mod plans;
#[cfg(target_os = "linux")]
mod pod;
#[cfg(target_os = "linux")]
mod prio;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod refusal;
#[cfg(target_os = "linux")]
mod repeated;
#[cfg(target_os = "linux")]
mod requirement;
#[cfg(target_os = "linux")]
mod services;
#[cfg(target_os = "linux")]
mod side_by_side;
#[cfg(target_os = "linux")]
mod signal;
#[cfg(target_os = "linux")]
mod syscall;
#[cfg(target_os = "linux")]
mod targets;
#[cfg(target_os = "linux")]
mod tracing;
#[cfg(target_os = "linux")]
mod waiting;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    container::be_app();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == tracing::ROLE) {
        tracing::play(&words[1..]);
        return std::process::ExitCode::SUCCESS;
    }
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Most of the time they wait for packets.
    arguments.test_threads.get_or_insert(requirement::PLACES);
    let mut tests = [
        anchor::tests(),
        burn::tests(),
        carried::tests(),
        deaths::tests(),
        delay::tests(),
        disk::tests(),
        emulator::tests(),
        ending::tests(),
        held::tests(),
        ingress::tests(),
        memory::tests(),
        names::tests(),
        observe::tests(),
        options::tests(),
        partition::tests(),
        pause::tests(),
        plans::tests(),
        prio::tests(),
        refusal::tests(),
        repeated::tests(),
        side_by_side::tests(),
        signal::tests(),
        syscall::tests(),
        targets::tests(),
        tracing::tests(),
        waiting::tests(),
    ]
    .concat_all();
    // Who is to be alone waits for all that run.
    tests.sort_by_key(|test| test.machine);
    if let Ok(share) = std::env::var("POD_CHAOS_SHARE") {
        tests = share_of(tests, &share).expect("POD_CHAOS_SHARE is a share, as 1/2");
    }
    let trials = tests.into_iter().map(libtest_mimic::Trial::from).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The first, second … of equal shares, `1/2` or `2/2`: on a kernel with one processor they take half as
/// long on two of them.
#[cfg(target_os = "linux")]
fn share_of<T>(tests: Vec<T>, share: &str) -> Option<Vec<T>> {
    let (number, of) = share.split_once('/')?;
    let (number, of): (usize, usize) = (number.parse().ok()?, of.parse().ok()?);
    let is_ours = (1..=of).contains(&number);
    is_ours.then(|| tests.into_iter().skip(number - 1).step_by(of).collect())
}

#[cfg(target_os = "linux")]
trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

#[cfg(target_os = "linux")]
impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}

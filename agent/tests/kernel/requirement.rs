//! What a test needs, and how one that lacks it is counted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::{Condvar, LazyLock, Mutex},
    time::Instant,
};

use libtest_mimic::{Completion, Failed, Trial};
use pod_chaos_protocol::Backend;

use crate::pod::backend;

/// What a test needs of the kernel, beyond root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Only network namespaces and nf_tables.
    Namespaces,
    /// A delay, by whatever backend the agent chooses or [`crate::pod::backend`] says.
    Delay,
    /// What only netem does.
    Netem,
    /// What only the agent does by itself, where the kernel has no netem or is not to use it.
    Emulator,
    /// A seed for the dice, which the kernel's netem has from Linux 6.6 on.
    Seeds,
    /// Links of VLANs.
    Vlan,
    /// A kernel without netem, to see it refused.
    NoNetem,
    /// A program to trace, and nothing of the network.
    Python,
    /// The same, and strace to compare with.
    Strace,
    /// A clock that nobody else goes by.
    OwnClock,
}

/// The first link or qdisc that this kernel lacks.
pub static LACKS: LazyLock<Option<String>> = LazyLock::new(|| {
    // In a namespace that ends with the command.
    let script = "ip link add probe type veth peer name other || { echo veth; exit; }
        for kind in 'tbf rate 1mbit burst 2000 limit 2000' 'netem delay 1ms'; do
            tc qdisc replace dev probe root $kind || { echo sch_${kind%% *}; exit; }
        done";
    let output = Command::new("unshare").args(["--net", "sh", "-c", script]).output().ok()?;
    let word = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!word.is_empty()).then_some(word)
});

/// Whether this kernel's netem has seeds: Linux 6.6. The `tc` of these tests cannot ask.
pub fn has_seeds() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= (6, 6)
}

/// Whether this kernel has links of VLANs.
static VLANS: LazyLock<bool> = LazyLock::new(|| {
    let script = "ip link add link lo name lo.7 type vlan id 7";
    let output = Command::new("unshare").args(["--net", "sh", "-c", script]).output();
    output.is_ok_and(|output| output.status.success())
});

/// Whether this kernel runs as a program (user-mode Linux).
static IS_PROGRAM: LazyLock<bool> = LazyLock::new(|| {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("User Mode Linux"))
});

/// The first of the tools that this machine lacks.
static NO_TOOL: LazyLock<Option<&str>> =
    LazyLock::new(|| lacking_tool(&["unshare", "nsenter", "ip", "tc", "nft", "ping"]));

/// The first of these tools that this machine lacks.
fn lacking_tool(tools: &[&'static str]) -> Option<&'static str> {
    tools.iter().copied().find(|tool| {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        !found.is_ok_and(|output| output.status.success())
    })
}

impl Needs {
    /// Why the test cannot run here.
    fn missing(self) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("skipped: needs root".to_owned());
        }
        if matches!(self, Self::Python | Self::Strace) {
            let tools =
                if self == Self::Strace { &["python3", "strace"][..] } else { &["python3"] };
            if self == Self::Strace && *IS_PROGRAM {
                return Some(
                    "skipped: starts many programs, too slowly on a kernel that is one".to_owned(),
                );
            }
            return lacking_tool(tools).map(|tool| format!("skipped: no {tool} on this machine"));
        }
        if self == Self::OwnClock && !*IS_PROGRAM {
            return Some("skipped: sets the clock, and it is this machine's".to_owned());
        }
        if let Some(tool) = *NO_TOOL {
            return Some(format!("skipped: no {tool} on this machine"));
        }
        match (self, &*LACKS) {
            (Self::Netem, Some(lacking)) => Some(format!("skipped: no {lacking} in this kernel")),
            (Self::Netem, None) if backend() != Backend::NetdevEgress => {
                Some("skipped: of netem, which was not to be used".to_owned())
            }
            (_, Some(lacking)) if lacking == "veth" => {
                Some(format!("skipped: no {lacking} in this kernel"))
            }
            // A kernel that runs as a program is too slow for its figures, and has netem.
            (Self::Emulator, None) if backend() != Backend::Userspace => Some(
                "skipped: this kernel has netem; POD_CHAOS_BACKEND=userspace runs it".to_owned(),
            ),
            (Self::Seeds, None) if backend() != Backend::Userspace && !has_seeds() => {
                Some("skipped: no seeds of netem in this kernel".to_owned())
            }
            (Self::Vlan, _) if !*VLANS => Some("skipped: no 8021q in this kernel".to_owned()),
            (Self::NoNetem, None) => Some("skipped: this kernel has netem".to_owned()),
            _ => None,
        }
    }
}

/// Whether others may run beside a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// Most of their time tests wait.
    Shared,
    /// It measures time, and most of it waits: one other of its kind may run.
    Measures,
    /// It keeps the processors so busy that nothing else may run.
    Alone,
}

impl Machine {
    /// Its part of [`PLACES`].
    fn places(self) -> usize {
        match self {
            Self::Shared => 1,
            Self::Measures => PLACES / 2,
            Self::Alone => PLACES,
        }
    }
}

/// How many tests may run beside each other.
pub const PLACES: usize = 6;

/// Places for tests to run in, held while one does.
struct Places(usize);

impl Places {
    fn take(count: usize) -> Self {
        let mut free = FREE.lock().unwrap();
        while *free < count {
            free = LEFT.wait(free).unwrap();
        }
        *free -= count;
        Self(count)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        *FREE.lock().unwrap() += self.0;
        LEFT.notify_all();
    }
}

static FREE: Mutex<usize> = Mutex::new(PLACES);
static LEFT: Condvar = Condvar::new();

/// How often a test that measures may do so until the figures are right.
const MEASUREMENTS: u32 = 3;

/// A test, and what it takes to run it.
pub struct Test {
    pub name: &'static str,
    pub needs: Needs,
    pub machine: Machine,
    pub run: fn(),
}

impl Test {
    /// Runs it; ignored, with the reason, where it cannot run.
    fn run(&self) -> Result<Completion, Failed> {
        if let Some(reason) = self.needs.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        let _places = Places::take(self.machine.places());
        let start = Instant::now();
        let mut outcome = catch_unwind(AssertUnwindSafe(self.run));
        // What else the machine does can spoil a measurement, but not mend it.
        let tries = if self.machine == Machine::Shared { 1 } else { MEASUREMENTS };
        for _ in 1..tries {
            if outcome.is_err() {
                println!("{}: measured again", self.name);
                outcome = catch_unwind(AssertUnwindSafe(self.run));
            }
        }
        // The suite is to stay quick.
        if std::env::var_os("POD_CHAOS_TIMES").is_some() {
            eprintln!("{:6.1} s  {}", start.elapsed().as_secs_f64(), self.name);
        }
        outcome.map_err(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
            Failed::from(text.unwrap_or_default())
        })?;
        Ok(Completion::Completed)
    }
}

impl From<Test> for Trial {
    fn from(test: Test) -> Self {
        Self::ignorable_test(test.name, move || test.run())
    }
}

/// The tests of a module, each named after its function, by what they need; `Delay measures:` or `Delay alone:`
/// for those that others must not run beside.
macro_rules! tests {
    ($($needs:ident $($machine:ident)?: $($name:ident),+ $(,)?);+ $(;)?) => {
        /// The tests of this module.
        pub fn tests() -> Vec<crate::requirement::Test> {
            use crate::requirement::{Needs, Test, machine};
            let mut all = Vec::new();
            $(
                let machine = machine!($($machine)?);
                all.extend([$(
                    Test { name: stringify!($name), needs: Needs::$needs, machine, run: $name }
                ),+]);
            )+
            all
        }
    };
}
pub(crate) use tests;

macro_rules! machine {
    () => {
        crate::requirement::Machine::Shared
    };
    (measures) => {
        crate::requirement::Machine::Measures
    };
    (alone) => {
        crate::requirement::Machine::Alone
    };
}
pub(crate) use machine;

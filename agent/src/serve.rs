//! `pod-chaos-agent serve`: one request, over stdin and stdout; see [`pod_chaos_protocol`].
//!
//! It exits 0 when it could answer, whatever the answer was.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd},
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use pod_chaos_protocol::{
    Ending, Event, Failure, FailureKind, Fault, FaultId, FaultStatus, PROTOCOL, Plan, Processes,
    Request,
};

use crate::{
    anchor::Anchor,
    apply::{self, InForce, LOCK_PATIENCE, take_lock},
    carried::{self, Outcome},
    carry, clock,
    error::failure,
    fault::{
        self, Cleared,
        counts::Counts,
        emulator, gate,
        label::{Kind, Label},
        signal,
    },
    kernel::Kernel,
    lines::{self, Lines},
    lock::Lock,
    netlink::nftables::{Monitor, News},
    observe, presence,
    probe::{Place, Prober},
    processes,
    retarget::Targets,
    role,
    status::{self, Held},
    stop, sweep,
};

/// How long before the deadline an end still counts as the timer's: two ticks of the slowest kernel.
const TIMER_SLACK_MS: u64 = 20;
/// How often the kernel is asked whether its timer has expired, once it is due.
const TIMER_STEP: Duration = Duration::from_millis(1);
/// And for how long.
const TIMER_PATIENCE_MS: u64 = 1_000;

/// Runs the subcommand.
pub fn run() -> ExitCode {
    // It may have been started as `/proc/PID/exe`.
    let _ = CString::new(processes::OWN_NAME).map(|name| prctl::set_name(&name));
    match Conversation::begin().and_then(|mut conversation| conversation.hold()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pod-chaos-agent serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Something that happened.
#[expect(clippy::large_enum_variant, reason = "there is never more than one")]
pub(crate) enum Happening {
    Request(Result<Request, Failure>),
    /// Nothing more will come on stdin.
    EndOfInput,
    /// SIGTERM or SIGINT.
    Signal,
    /// At one of the others that are waited for.
    Other,
    /// The time is up.
    Timeout,
}

/// The two ends of the conversation, and what may interrupt it.
pub(crate) struct Conversation {
    lines: Lines,
    input_ended: bool,
    signals: SignalFd,
}

impl Conversation {
    fn begin() -> io::Result<Self> {
        let mut ending = SigSet::empty();
        ending.add(Signal::SIGTERM);
        ending.add(Signal::SIGINT);
        // A terminal that goes away says SIGHUP; like the end of the input, it does not end the fault.
        let mut blocked = ending;
        blocked.add(Signal::SIGHUP);
        blocked.thread_block()?;
        let signals =
            SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { lines: Lines::default(), input_ended: false, signals })
    }

    fn hold(&mut self) -> io::Result<()> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        lines::write(&Event::Hello { protocol: PROTOCOL, version, pid: std::process::id() })?;
        match self.next(None, &[])? {
            Happening::Request(request) => {
                if let Err(failure) = request.and_then(|request| self.answer(request)) {
                    say(&Event::Failed { failure });
                }
            }
            Happening::EndOfInput | Happening::Signal | Happening::Other | Happening::Timeout => {}
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) -> Result<(), Failure> {
        match request {
            Request::Apply { plan } => self.apply(&plan),
            Request::Disturb { plan } => carry::carry(self, &plan),
            Request::Observe { plan } => observe::observe(self, &plan),
            Request::Signal { plan } => signal::send(&plan),
            Request::Anchor { target } => self.anchor(&target),
            Request::Status => say_status(),
            Request::Revert { fault } => revert(fault),
            Request::Stop => stop(),
            other => Err(failure(
                FailureKind::BadRequest,
                format!("this agent ({}) does not know {other:?}", env!("CARGO_PKG_VERSION")),
                None,
            )),
        }
    }

    fn anchor(&mut self, target: &Processes) -> Result<(), Failure> {
        let anchor = Anchor::start(target)?;
        say(&Event::Anchored { pid: anchor.pid() });
        // An error of poll is the end as well.
        while let Ok(Happening::Request(_)) = self.next(None, &[]) {}
        Ok(())
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), Failure> {
        let place = plan.probe.as_ref().map(Place::find).transpose()?;
        let in_force = match carried::settled(plan.id)? {
            Some(Outcome::Applied) => apply::join(plan, &mut |event| say(&event)),
            Some(Outcome::Left) | None => apply::apply(plan, &mut |event| say(&event)),
        };
        let InForce { mut kernel, label, status, traffic, monitor } = in_force?;
        let kill = matches!(&plan.fault, Fault::Partition(fault) if fault.kill_connections);
        let targets = Targets::new(plan.id, status.interfaces.clone(), traffic, kill);
        say(&Event::InForce { status: Box::new(status) });
        // Without a thread for it, nobody knows when traffic passes again.
        let prober = place.and_then(|place| Prober::start(place).ok());
        let by = self.wait_for_end(&mut kernel, plan.id, &label, monitor, targets);
        let at = Instant::now();
        let ended = end(&mut kernel, plan.id, by, &label);
        prober.map(|prober| prober.resumed(at)).iter().for_each(say);
        say(&ended);
        Ok(())
    }

    /// Waits until the fault has ended, or is to be ended.
    fn wait_for_end(
        &mut self,
        kernel: &mut Kernel,
        id: FaultId,
        label: &Label,
        mut monitor: Option<Monitor>,
        mut targets: Targets,
    ) -> Ending {
        let to_ms = label.to_ms;
        loop {
            // An error of poll itself must not leave the fault without its agent.
            let others: Vec<_> =
                monitor.iter().map(|monitor| monitor.as_fd()).chain(targets.bell()).collect();
            let happening = self.next(Some(to_ms), &others).unwrap_or(Happening::Signal);
            match happening {
                Happening::Timeout => {
                    await_timer(kernel, id, to_ms);
                    return Ending::Timer;
                }
                Happening::Signal => return Ending::Request,
                Happening::Other => {
                    targets.resolved(kernel).iter().for_each(say);
                    let news = monitor.as_mut().map(Monitor::news);
                    if news.is_some_and(|news| concerns(&news, id)) && !hits(kernel, id, label.kind)
                    {
                        let early = clock::now_ms() + TIMER_SLACK_MS < to_ms;
                        return if early { Ending::Elsewhere } else { Ending::Timer };
                    }
                }
                Happening::Request(Ok(Request::Revert { fault }))
                    if fault.is_none_or(|of| of == id) =>
                {
                    return Ending::Request;
                }
                Happening::Request(Ok(Request::Status)) => {
                    say_status_of(kernel).unwrap_or_else(|failure| say(&Event::Failed { failure }));
                }
                Happening::Request(Ok(Request::Retarget { target, endpoints })) => {
                    targets.told(kernel, &target, &endpoints).iter().for_each(say);
                }
                Happening::Request(request) => {
                    let failure = request.err().unwrap_or_else(|| {
                        let message = format!(
                            "while fault {id} runs, this stream takes `revert` of it, `retarget` and \
                             `status`"
                        );
                        failure(FailureKind::BadRequest, message, None)
                    });
                    say(&Event::Failed { failure });
                }
                Happening::EndOfInput => {}
            }
        }
    }

    /// Waits for the next thing to happen, here or at `others`, until that time on the [`clock`].
    pub(crate) fn next(
        &mut self,
        until_ms: Option<u64>,
        others: &[BorrowedFd<'_>],
    ) -> io::Result<Happening> {
        let input = io::stdin();
        loop {
            if let Some(line) = self.lines.next_line() {
                return Ok(Happening::Request(lines::request(line)));
            }
            let left = until_ms.map(|until| until.saturating_sub(clock::now_ms()));
            if left == Some(0) {
                return Ok(Happening::Timeout);
            }
            let input_fd = (!self.input_ended).then(|| input.as_fd());
            let [input_ready, signal_ready, other_ready] =
                wait(input_fd, self.signals.as_fd(), others, left)?;
            if signal_ready {
                return Ok(Happening::Signal);
            }
            if other_ready {
                return Ok(Happening::Other);
            }
            if input_ready && !lines::read_some(&input, &mut self.lines) {
                self.input_ended = true;
                return Ok(self.lines.last_line().map_or(Happening::EndOfInput, |line| {
                    Happening::Request(lines::request(line))
                }));
            }
        }
    }
}

/// Waits until one of these can be read or `left_ms` is over; says whether it is the input, a signal, or one
/// of the others.
fn wait(
    input: Option<BorrowedFd<'_>>,
    signals: BorrowedFd<'_>,
    others: &[BorrowedFd<'_>],
    left_ms: Option<u64>,
) -> io::Result<[bool; 3]> {
    let mut polled: Vec<_> = [signals]
        .into_iter()
        .chain(others.iter().copied())
        .chain(input)
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    // Rounded up to a whole millisecond by now_ms; the longest wait is 24 days, and comes round again.
    let timeout = left_ms.map_or(PollTimeout::NONE, |left| {
        i32::try_from(left).ok().and_then(|left| left.try_into().ok()).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut polled, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ready: Vec<_> = polled.iter().map(|fd| fd.any().unwrap_or(false)).collect();
    let (others, input_ready) = ready[1..].split_at(others.len());
    Ok([input_ready.contains(&true), ready[0], others.contains(&true)])
}

/// Says something to the plugin. It may have gone, in which case the fault goes on all the same.
pub(crate) fn say(event: &Event) {
    let _ = lines::write(event);
}

fn say_status() -> Result<(), Failure> {
    if role::sees_network() {
        return say_status_of(&mut Kernel::open()?);
    }
    say_all(Vec::new());
    Ok(())
}

fn say_status_of(kernel: &mut Kernel) -> Result<(), Failure> {
    let faults = status::scan(kernel)?.iter().filter_map(Held::status).collect();
    say_all(faults);
    Ok(())
}

/// With what the carriers of the pod say.
fn say_all(faults: Vec<FaultStatus>) {
    let (processes, untold) = presence::statuses();
    untold.iter().for_each(say);
    say(&Event::Status { faults, processes });
}

fn concerns(news: &News, id: FaultId) -> bool {
    match news {
        News::Lost => true,
        News::Tables(tables) => {
            tables.iter().any(|table| fault::id_of_any_table(table) == Some(id))
        }
    }
}

/// Whether the fault still hits packets. When the kernel does not say, it may.
fn hits(kernel: &mut Kernel, id: FaultId, kind: Kind) -> bool {
    let works = match kind {
        Kind::Netem | Kind::Prio | Kind::Partition => true,
        Kind::Emulated => emulator::is_at_work(kernel, id).unwrap_or(true),
    };
    works && gate::is_open(kernel, id)
}

/// Waits until the kernel's timer has expired: it is due, and off by a few milliseconds at most.
fn await_timer(kernel: &mut Kernel, id: FaultId, to_ms: u64) {
    while gate::is_open(kernel, id) && clock::now_ms() < to_ms + TIMER_PATIENCE_MS {
        std::thread::sleep(TIMER_STEP);
    }
}

/// Clears the fault of this process.
fn end(kernel: &mut Kernel, id: FaultId, by: Ending, label: &Label) -> Event {
    // At once, without waiting for anyone; when it fails, clearing tries again and says why.
    let _ = gate::close(kernel, id);
    let ran_ms = clock::now_ms().min(label.to_ms).saturating_sub(label.from_ms);
    let counts = status::counts(kernel, id, Some(label)).unwrap_or_default();
    // Whoever holds the lock for so long does not keep us from clearing what is our own.
    let _lock = Lock::take(LOCK_PATIENCE);
    ended((id, by, ran_ms), counts, sweep::clear(kernel, id))
}

fn ended((fault, by, ran_ms): (FaultId, Ending, u64), counts: Counts, cleared: Cleared) -> Event {
    let Counts { hit, done } = counts;
    let Cleared { left, errors } = cleared;
    Event::Ended {
        fault,
        by,
        ran_ms,
        packets: Some(hit),
        delayed: done.map(|done| done.delayed),
        dropped: done.map(|done| done.dropped),
        calls: None,
        left,
        errors,
    }
}

/// Ends faults of any agent, and clears what is left of others. One that is not there has ended.
fn revert(fault: Option<FaultId>) -> Result<(), Failure> {
    for id in presence::faults().unwrap_or_default() {
        if fault.is_none_or(|of| of == id) {
            presence::revert(id).iter().for_each(say);
        }
    }
    if !role::sees_network() {
        return say_status();
    }
    // One that the agent is just about to put in force would come after its own revert.
    for id in carried::given().into_iter().filter(|id| fault.is_none_or(|of| of == *id)) {
        carried::settled(id)?;
    }
    let _lock = take_lock()?;
    let mut kernel = Kernel::open()?;
    let held = status::scan(&mut kernel)?;
    let chosen: Vec<_> = held.iter().filter(|held| fault.is_none_or(|id| id == held.id)).collect();
    // All at once, before any is cleared, which may take a second each.
    for found in &chosen {
        let _ = gate::close(&mut kernel, found.id);
    }
    for found in chosen {
        let by = match (found.is_live(), found.is_abandoned()) {
            (true, _) => Ending::Request,
            (false, true) => Ending::Agent,
            (false, false) => Ending::Timer,
        };
        let ran_ms = found.age_ms();
        let counts = status::counts(&mut kernel, found.id, found.label.as_ref());
        let cleared = sweep::clear(&mut kernel, found.id);
        say(&ended((found.id, by, ran_ms), counts.unwrap_or(found.counts), cleared));
    }
    say_status_of(&mut kernel)
}

/// Ends all faults, then the agent that waits.
fn stop() -> Result<(), Failure> {
    revert(None)?;
    let errors = stop::waiting_agents();
    if errors.is_empty() {
        return Ok(());
    }
    Err(failure(FailureKind::Kernel, errors.join("; "), None))
}

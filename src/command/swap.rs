//! `fail --by image`: a pod's containers get an image that cannot be pulled, and their own at the deadline.

use std::{rc::Rc, time::Duration};

use pod_chaos_protocol::FaultId;
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep},
};

use super::{
    fault::{follow_all, how_it_ended},
    interrupt::Interrupts,
    note, print_line,
    start::{all, choose_safely, confirm, selection},
};
use crate::{
    cli::{ConnectionArgs, DryRun, FailArgs},
    cluster::{
        Audit, Chosen, Cluster, RestoredBy, Restorer, Stage, Swap, check_budgets, check_pod, now,
        remove_restorer,
    },
    exit::{Error, Exit},
    plan::OutputFormat,
    report::{Board, Follow, document, json, text},
};

/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(connection: &ConnectionArgs, args: &FailArgs) -> Result<Exit, Error> {
    let (call_off, called_off) = watch::channel(false);
    let mut interrupts = Interrupts::catch_with(called_off.clone())?;
    let board = Board::new(args.course.output.format.clone());
    let ready = tokio::select! {
        ready = Box::pin(make_ready(connection, args, &board)) => ready?,
        () = interrupts.next() => {
            note("interrupted before anything was in force");
            return Ok(Exit::Interrupted);
        }
    };
    let mut all = Vec::new();
    for (at, restorer) in ready {
        let interrupts = Interrupts::catch_with(called_off.clone())?;
        let report = board.follow(at.cluster.scope(), &at.name);
        let run = Run {
            audit: Audit::new(&at, restorer.fault),
            at,
            restorer,
            report,
            detach: args.course.detach,
            grace: args.job_grace.into(),
            left: false,
        };
        all.push(run.carry_out(interrupts));
    }
    follow_all(all, &board, args.target.fail_fast.then_some(call_off)).await
}

/// Chooses the pods, and looks what speaks against it in any of them. Touches nothing.
async fn make_ready(
    connection: &ConnectionArgs,
    args: &FailArgs,
    board: &Rc<Board>,
) -> Result<Vec<(Chosen, Restorer)>, Error> {
    let pick = &args.target.pick;
    let (selection, running_time) = (selection(pick)?, args.course.running_time);
    let clusters = Cluster::connect(connection, pick.namespace.namespace.as_ref()).await?;
    let (pods, mut refusals) =
        choose_safely(&clusters, &selection, &args.target, Some(running_time), board).await?;
    let alone = refusals.of == 1;
    let restorer = || Restorer {
        fault: FaultId::new(rand::random()),
        image: args.restorer_image.clone(),
        service_account: args.service_account.clone(),
        running_time,
    };
    let tries = args.target.dry_run != Some(DryRun::Client);
    let checks = pods.into_iter().map(|at| async {
        let restorer = restorer();
        let checked = check(&at, &restorer, tries).await;
        (at, checked.map(|swap| (restorer, swap)))
    });
    let mut ready = Vec::new();
    for (at, checked) in all(checks).await {
        ready.extend(refusals.keep(&at, checked).map(|(restorer, swap)| (at, restorer, swap)));
    }
    refusals.check(&args.target, alone, ready.is_empty())?;
    if !args.force {
        let pods: Vec<_> = ready.iter().map(|(at, ..)| at.clone()).collect();
        check_budgets(&pods, &mut |text| board.note(text)).await?;
    }
    refusals.tell(board);
    for (at, _, swap) in &ready {
        let names: Vec<_> = swap.images.keys().map(String::as_str).collect();
        board.note(&format!(
            "{} to be restarted with an image that cannot be pulled, and at the end with its own: {}",
            at.title(),
            names.join(", ")
        ));
    }
    if args.target.dry_run.is_some() {
        for (at, restorer, _) in &ready {
            if board.output == OutputFormat::Yaml {
                print_line(&"---")?;
            }
            document::print(&board.output, &restorer.job(at), [at.name.as_str()])?;
        }
        board.note("dry run: nothing was touched");
        return Err(Error::nothing());
    }
    confirm(&args.target, ready.len()).await?;
    sleep(args.course.warm_up.duration()).await;
    Ok(ready.into_iter().map(|(at, restorer, _)| (at, restorer)).collect())
}

/// What it would come to.
async fn check(at: &Chosen, restorer: &Restorer, tries: bool) -> Result<Swap, Error> {
    let Chosen { cluster, name, pod } = at;
    check_pod(pod, None)?;
    if let Some(other) = Swap::in_force(pod)?.first() {
        let refused =
            format!("pod/{name} has no images of its own: fault {} has replaced them", other.fault);
        let hint = format!("`kubectl pod-chaos revert {}` puts them back", cluster.flags(name));
        return Err(Error::refused(refused).hint(hint));
    }
    let swap = Swap::new(pod, restorer, 0);
    if tries {
        restorer.check(at).await?;
        swap.check(at).await?;
    }
    Ok(swap)
}

/// One such fault on one pod.
struct Run {
    at: Chosen,
    restorer: Restorer,
    report: Box<dyn Follow>,
    audit: Audit,
    detach: bool,
    /// How long after the deadline the Job may take, before this command does it.
    grace: Duration,
    /// Whether it goes on without this command.
    left: bool,
}

impl Run {
    async fn carry_out(mut self, mut interrupts: Interrupts) -> (Chosen, Result<Exit, Error>) {
        let outcome = Box::pin(self.begin(&mut interrupts)).await;
        self.report.outcome(&outcome);
        let Self { at, audit, left, .. } = self;
        audit.end((!left).then(|| how_it_ended(&outcome))).await;
        (at, outcome)
    }

    /// No images are replaced before somebody else is there to put them back.
    async fn begin(&mut self, interrupts: &mut Interrupts) -> Result<Exit, Error> {
        let at = self.at.clone();
        let Chosen { cluster, name, .. } = &at;
        self.restorer.put_up(&at).await?;
        let job = self.restorer.name();
        self.report
            .note(&format!("pod/{name} job/{job} made, to put the images back: waiting for it"));
        tokio::select! {
            ready = self.restorer.ready(&at) => ready?,
            () = interrupts.next() => {
                self.report.note(&format!("{} before anything was in force", interrupts.why));
                self.end().await?;
                return Ok(Exit::Interrupted);
            }
        }
        let swap = Swap::new(&cluster.pod(name).await?, &self.restorer, now(cluster).await);
        if let Err(error) = swap.carry_out(&at).await {
            // It may have come through all the same.
            self.end().await?;
            return Err(error);
        }
        let deadline = Instant::now() + self.restorer.running_time.into();
        self.report
            .tell(text::swapped(name, &swap), &json::swapped(cluster.scope(), name, &swap))?;
        let length = deadline.saturating_duration_since(Instant::now());
        self.audit.begin("images replaced".to_owned(), length);
        if self.detach {
            let left_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            self.report.detached("its Job", left_ms, &cluster.flags(name));
            self.left = true;
            return Ok(Exit::Done);
        }
        let (exit, by) = tokio::select! {
            by = follow(&self.at, swap.fault, deadline, self.grace, self.report.as_mut()) => (Exit::Done, by),
            () = interrupts.next() => {
                self.report.note(&format!("{}: putting the images back", interrupts.why));
                (Exit::Interrupted, RestoredBy::Client)
            }
        };
        // Twice is harmless, and the Job goes if it is still there.
        self.end().await?;
        self.report.finish();
        let event = json::restored(cluster.scope(), name, swap.fault, by);
        self.report.tell(text::restored(name, by), &event)?;
        Ok(exit)
    }

    async fn end(&self) -> Result<bool, Error> {
        take_back(&self.at, self.restorer.fault, &self.restorer.name()).await
    }
}

/// Stays with it until it has ended, or ought to have for longer than the grace.
async fn follow(
    at: &Chosen,
    fault: FaultId,
    deadline: Instant,
    grace: Duration,
    report: &mut dyn Follow,
) -> RestoredBy {
    let mut tick = interval(Duration::from_millis(200));
    let mut look = Instant::now();
    loop {
        tick.tick().await;
        let now = Instant::now();
        report.time_left(deadline.saturating_duration_since(now));
        if now < look {
            continue;
        }
        look = now + LOOK_EVERY;
        // Who cannot be asked now is asked again.
        if matches!(Stage::of(at, fault).await, Ok(Stage::Over)) {
            return RestoredBy::Job;
        }
        if now > deadline + grace {
            report.note(&format!(
                "pod/{} its Job is late: putting the images back from here",
                at.name
            ));
            return RestoredBy::Client;
        }
    }
}

/// Puts the images of a fault back and removes its Job. Whether there was something to be put back.
async fn take_back(at: &Chosen, fault: FaultId, job: &str) -> Result<bool, Error> {
    let Chosen { cluster, name, .. } = at;
    let restored = Swap::take_back(at, fault).await;
    let removed = remove_restorer(cluster, job).await;
    let restored = restored.map_err(|error| Error {
        exit: Exit::NotClean,
        ..error.hint(format!("`kubectl pod-chaos revert {}` tries again", cluster.flags(name)))
    });
    removed.and(restored)
}

/// Ends all such faults of a pod; those that were in force.
pub(super) async fn revert(at: &Chosen) -> Result<Vec<Swap>, Error> {
    let mut reverted = Vec::new();
    for (fault, swap) in Swap::all_of(&at.pod)? {
        take_back(at, fault, &Restorer::name_for(fault)).await?;
        reverted.extend(swap);
    }
    Ok(reverted)
}

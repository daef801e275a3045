//! `disrupt`: put a network fault in force, stay with it, and see that it is gone.

use std::time::Duration;

use pod_chaos_protocol::{Event, FaultId, FaultStatus, Request};
use tokio::time::{Instant, sleep, sleep_until};

use super::{interrupt::Interrupts, note, sweep};
use crate::{
    cli::{ConnectionArgs, DisruptArgs},
    cluster::{Cluster, Installed, Session, SessionError, ensure_agent},
    exit::{Error, Exit},
    plan::{Disruption, PodName},
    report::{Follow, follow},
};

/// How long after its deadline a fault's agent may take to report it clean.
const GRACE: Duration = Duration::from_secs(5);

pub(super) async fn run(connection: &ConnectionArgs, args: &DisruptArgs) -> Result<Exit, Error> {
    let disruption = Disruption::try_from(args).map_err(|error| {
        Error::new(Exit::Usage, error).hint("`kubectl pod-chaos disrupt --help` explains the flags")
    })?;
    let name = &args.target.pod;
    let mut interrupts = Interrupts::catch()?;
    let before = async {
        let cluster =
            Cluster::connect(connection, args.target.namespace.namespace.as_ref()).await?;
        let report = follow(args.output, cluster.namespace(), name);
        let run = start(&cluster, name, &disruption, report).await?;
        Ok::<_, Error>((cluster, run))
    };
    // Until the plan has been sent nothing has to be reverted.
    let (cluster, mut run) = tokio::select! {
        started = before => started?,
        () = interrupts.next() => {
            eprintln!("interrupted before anything was in force");
            return Ok(Exit::Interrupted);
        }
    };
    run.carry_out(&cluster, &disruption, &mut interrupts).await
}

/// Everything up to the moment before the fault: an agent that answers, and the warm-up.
async fn start(
    cluster: &Cluster,
    name: &PodName,
    disruption: &Disruption,
    mut report: Box<dyn Follow>,
) -> Result<Run, Error> {
    let pod = cluster.pod(name).await?;
    let image = &disruption.image;
    let (mut session, installed) =
        ensure_agent(cluster, name, &pod, image, &mut |text| report.note(text)).await?;
    if installed == Installed::Now {
        report.note(&format!(
            "pod/{name} agent installed: {} (it stays in the pod's spec)",
            session.container
        ));
    }
    let warm_up = disruption.warm_up.duration();
    if !warm_up.is_zero() {
        // The stream is opened anew afterwards: nothing in between may cut it for idling.
        drop(session);
        let start = Instant::now();
        while let Some(left) = warm_up.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            report.warming_up(left, warm_up);
            sleep(left.min(Duration::from_millis(200))).await;
        }
        let pod = cluster.pod(name).await?;
        session = ensure_agent(cluster, name, &pod, image, &mut |text| report.note(text)).await?.0;
    }
    Ok(Run { name: name.clone(), session, report, deadline: None })
}

/// A fault from the moment its plan is sent.
struct Run {
    name: PodName,
    session: Session,
    report: Box<dyn Follow>,
    /// When it ends at the latest; `None` until it is in force.
    deadline: Option<Instant>,
}

/// Why the plugin stopped listening to the agent.
enum Outcome {
    Exit(Exit),
    /// The stream broke; the fault goes on to its deadline.
    Lost(String),
}

impl Run {
    async fn carry_out(
        &mut self,
        cluster: &Cluster,
        disruption: &Disruption,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Error> {
        let sent = Instant::now();
        self.session.send(&Request::Apply { plan: disruption.plan.clone() }).await?;
        let id = disruption.plan.id;
        match self.listen(disruption, interrupts).await? {
            Outcome::Exit(exit) => Ok(exit),
            Outcome::Lost(why) => {
                // Without a word that it is in force, it may still have been put in force.
                let latest = sent + Duration::from(disruption.plan.running_time) + GRACE;
                let deadline = self.deadline.unwrap_or(latest);
                self.outlive(cluster, disruption, id, &why, deadline, interrupts).await
            }
        }
    }

    /// Follows the agent's events to the end of the fault.
    async fn listen(
        &mut self,
        disruption: &Disruption,
        interrupts: &mut Interrupts,
    ) -> Result<Outcome, Error> {
        let mut interrupted = false;
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            let overdue = self.deadline.unwrap_or_else(|| Instant::now() + 6 * GRACE) + GRACE;
            tokio::select! {
                event = self.session.next() => match event {
                    Ok(event) => {
                        self.report.event(&event)?;
                        match event {
                            Event::InForce { status } => {
                                self.in_force(&status);
                                if disruption.detach {
                                    self.report.detached(&status);
                                    return Ok(Outcome::Exit(Exit::Done));
                                }
                            }
                            Event::Ended { .. } if !sweep::is_clean(&event) => {
                                return Ok(Outcome::Exit(Exit::NotClean));
                            }
                            Event::Ended { .. } if interrupted => {
                                return Ok(Outcome::Exit(Exit::Interrupted));
                            }
                            Event::Ended { .. } => return Ok(Outcome::Exit(Exit::Done)),
                            Event::Failed { failure } => {
                                self.report.finish();
                                return Err(sweep::failure(&self.name, failure));
                            }
                            _ => {}
                        }
                    }
                    Err(SessionError::Lost(why)) => return Ok(Outcome::Lost(why)),
                    Err(error) => return Err(error.into()),
                },
                () = interrupts.next() => {
                    if interrupted {
                        self.report.finish();
                        eprintln!("interrupted again: not waiting for the revert; the kernel ends \
                                   the fault at its deadline at the latest");
                        return Ok(Outcome::Exit(Exit::NotClean));
                    }
                    interrupted = true;
                    self.report.note("interrupted: reverting");
                    let revert = Request::Revert { fault: Some(disruption.plan.id) };
                    if let Err(SessionError::Lost(why)) = self.session.send(&revert).await {
                        return Ok(Outcome::Lost(why));
                    }
                }
                _ = tick.tick() => {
                    if let Some(deadline) = self.deadline {
                        let left = deadline.saturating_duration_since(Instant::now());
                        self.report.time_left(left);
                    }
                }
                () = sleep_until(overdue) => {
                    return Ok(Outcome::Lost("no word from it".to_owned()));
                }
            }
        }
    }

    fn in_force(&mut self, status: &FaultStatus) {
        self.deadline = Some(Instant::now() + Duration::from_millis(status.remaining_ms));
    }

    /// The agent is out of reach, not the kernel's timer: waits for that, then has an agent look.
    /// An interrupt has an agent revert at once.
    async fn outlive(
        &mut self,
        cluster: &Cluster,
        disruption: &Disruption,
        id: FaultId,
        why: &str,
        deadline: Instant,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.report.note(&format!(
            "pod/{} lost the agent ({why}); the kernel's timer ends the fault in {:.0} s all the same",
            self.name,
            left.as_secs_f64().ceil()
        ));
        let mut exit = Exit::Done;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.report.time_left(left);
            tokio::select! {
                () = sleep(left.min(Duration::from_millis(200))) => {}
                () = interrupts.next() => {
                    self.report.note("interrupted: reverting");
                    exit = Exit::Interrupted;
                    break;
                }
            }
        }
        self.report.finish();
        let looked = async {
            let pod = cluster.pod(&self.name).await?;
            let (session, _) =
                ensure_agent(cluster, &self.name, &pod, &disruption.image, &mut note).await?;
            let container = session.container.clone();
            Ok::<_, Error>((container, sweep::revert(session, Some(id)).await?))
        };
        let looked = tokio::select! {
            looked = looked => looked,
            () = interrupts.next() => {
                Err(Error::new(Exit::NotClean, "interrupted again"))
            }
        };
        match looked {
            Ok((container, events)) => {
                let mut clean = true;
                for event in &events {
                    clean &= sweep::is_clean(event);
                    self.report.event(event)?;
                }
                if !clean {
                    return Ok(Exit::NotClean);
                }
                self.report.note(&format!("pod/{} clean: read back by {container}", self.name));
                Ok(exit)
            }
            Err(error) => Err(Error {
                exit: Exit::NotClean,
                messages: std::iter::once(format!(
                    "pod/{} was not verified clean; the kernel's timer has ended the fault or ends \
                     it at its deadline",
                    self.name
                ))
                .chain(error.messages)
                .collect(),
                hint: Some(format!(
                    "`kubectl pod-chaos revert -p {}` looks, and clears what is left",
                    self.name
                )),
            }),
        }
    }
}

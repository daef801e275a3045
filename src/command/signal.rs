//! `signal`: processes get a signal, once. `kill` sends with it.

use std::rc::Rc;

use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{Event, FailureKind, ProcessSignal, Request, SignalName, SignalPlan};

use super::{
    fault::{follow_all, only_with},
    interrupt::Interrupts,
    note, process,
    start::{Aim, Ready, Wanted, Way, make_ready},
    sweep,
};
use crate::{
    cli::{ConnectionArgs, ProcessArgs, SignalArgs},
    cluster::{
        AgentSpec, Capability, Chosen, Domain, Session, SessionError, TargetContainer,
        check_budgets, ensure_agent,
    },
    exit::{Error, Exit},
    report::{Board, Follow},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &SignalArgs) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::catch()?;
    let board = Board::new(args.output.format.clone());
    let sent = async {
        let mut shot = Shot {
            target: &args.target,
            signal: Some(args.signal),
            // To signal another user's processes, and to kill the first one of a container.
            within_budgets: false,
            capabilities: match args.signal {
                SignalName::KILL => &[Capability::SysPtrace, Capability::Kill],
                _ => &[Capability::Kill],
            },
        };
        let (pods, at_once) = (&args.target.of.pod, std::time::Duration::ZERO);
        let ready = make_ready(connection, pods, at_once, false, &board, &mut shot).await?;
        if args.signal == SignalName::STOP {
            note("note: what is stopped so goes on at SIGCONT only; `pause` ends by itself");
        }
        let shot = &shot;
        let fired = ready.into_iter().map(|Ready { at, deed, way, mut report, .. }| async move {
            let sent = shot.fire(report.as_mut(), &at, &deed, way).await.map(|_| Exit::Done);
            report.outcome(&sent);
            (at, sent)
        });
        follow_all(fired.collect(), &board, None).await
    };
    tokio::select! {
        sent = Box::pin(sent) => sent,
        () = interrupts.next() => {
            note("interrupted; whether the signal was sent is not known");
            Ok(Exit::Interrupted)
        }
    }
}

/// A signal that is to be sent.
pub(super) struct Shot<'a> {
    pub target: &'a ProcessArgs,
    pub signal: Option<SignalName>,
    /// Whether it takes pods out of service, which has to be within their budgets.
    pub within_budgets: bool,
    /// What an agent needs for it where the processes are another user's.
    pub capabilities: &'a [Capability],
}

impl Wanted for Shot<'_> {
    type Deed = TargetContainer;

    fn domain(&self) -> Domain {
        Domain::Processes
    }

    async fn survey(&mut self, pods: &[Chosen], board: &Rc<Board>) -> Result<(), Error> {
        if !self.within_budgets {
            return Ok(());
        }
        check_budgets(pods, &mut |text| board.note(text)).await
    }

    fn aim(&mut self, Chosen { pod, .. }: &Chosen) -> Result<Vec<Aim<TargetContainer>>, Error> {
        let containers = process::containers(&self.target.of, pod)?.into_iter();
        Ok(containers
            .map(|container| Aim {
                agent: self.agent(pod, &container),
                notes: Vec::new(),
                inside: None,
                plan: None,
                deed: container,
            })
            .collect())
    }
}

impl Shot<'_> {
    /// The agent that can send it.
    pub fn agent(&self, pod: &Pod, container: &TargetContainer) -> AgentSpec {
        process::agent(self.target.of.agent.origin(), pod, container, self.capabilities)
    }

    /// Sends it by an agent that answers, and says to whom.
    pub async fn fire(
        &self,
        report: &mut dyn Follow,
        at: &Chosen,
        container: &TargetContainer,
        way: Way,
    ) -> Result<Vec<ProcessSignal>, Error> {
        let Way::Session(session) = way else {
            return Err(Error::internal("sending a signal", "no agent answers"));
        };
        self.fire_by(report, at, container, *session).await
    }

    /// The same.
    pub async fn fire_by(
        &self,
        report: &mut dyn Follow,
        at: &Chosen,
        container: &TargetContainer,
        session: Session,
    ) -> Result<Vec<ProcessSignal>, Error> {
        let matching = self.target.matching.clone();
        let plan = SignalPlan { target: container.processes(matching), signal: self.signal };
        let more = process::more_capable_agent(&self.agent(&at.pod, container), self.capabilities);
        send(report, at, &plan, session, more).await
    }
}

/// Has an agent send a signal, and says to whom; where the node does not let it, `more`.
pub(super) async fn send(
    report: &mut dyn Follow,
    at: &Chosen,
    plan: &SignalPlan,
    mut session: Session,
    mut more: Option<AgentSpec>,
) -> Result<Vec<ProcessSignal>, Error> {
    let request = Request::Signal { plan: plan.clone() };
    session.send(&request).await?;
    let mut sent = Vec::new();
    loop {
        match session.answer().await {
            Ok(event @ Event::Signals { .. }) => {
                report.event(&event)?;
                if let Event::Signals { signals } = event {
                    sent = signals;
                }
            }
            Ok(Event::Failed { failure }) => {
                // Of several, some may have got it.
                let refused = failure.kind == FailureKind::NotPermitted && sent.len() < 2;
                let Some(spec) = more.take().filter(|_| refused) else {
                    return Err(sweep::failure(&at.name, &session, failure));
                };
                report.note(&only_with(&at.name, &spec.role));
                session = ensure_agent(&at.cluster, &at.name, &at.pod, &spec, &mut note).await?.0;
                session.send(&request).await?;
            }
            Ok(_) => {}
            // The agent has done what it was asked for, or has ended with the container.
            Err(SessionError::Lost(_) | SessionError::Silent(_)) if !sent.is_empty() => {
                return Ok(sent);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

//! `signal`: processes get a signal, once. `kill` sends with it.

use std::io::{Write as _, stdout};

use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{Event, ProcessSignal, Processes, Request, SignalName, SignalPlan};

use super::{interrupt::Interrupts, note, sweep};
use crate::{
    cli::{ConnectionArgs, OutputFormat, ProcessArgs, SignalArgs},
    cluster::{
        AgentSpec, Capability, Cluster, Domain, Installed, Role, SessionError, TargetContainer,
        check_pod, ensure_agent,
    },
    exit::{Error, Exit},
    plan::PodName,
    report::{json, text},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &SignalArgs) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::catch()?;
    let name = &args.target.of.pod.pod;
    let sent = async {
        let cluster =
            Cluster::connect(connection, args.target.of.pod.namespace.namespace.as_ref()).await?;
        let shot = Shot {
            cluster: &cluster,
            name,
            target: &args.target,
            signal: Some(args.signal),
            // To signal another user's processes, and to kill the first one of a container.
            capabilities: match args.signal {
                SignalName::KILL => &[Capability::SysPtrace, Capability::Kill],
                _ => &[Capability::Kill],
            },
            output: args.output,
        };
        let pod = cluster.pod(name).await?;
        let container = shot.aim(&pod)?;
        if args.signal == SignalName::STOP {
            note("note: what is stopped so goes on at SIGCONT only; `pause` ends by itself");
        }
        shot.fire(&pod, &container).await
    };
    tokio::select! {
        sent = Box::pin(sent) => sent.map(|_| Exit::Done),
        () = interrupts.next() => {
            eprintln!("interrupted; whether the signal was sent is not known");
            Ok(Exit::Interrupted)
        }
    }
}

/// A signal that is to be sent.
pub(super) struct Shot<'a> {
    pub cluster: &'a Cluster,
    pub name: &'a PodName,
    pub target: &'a ProcessArgs,
    pub signal: Option<SignalName>,
    /// What an agent needs for it where the processes are another user's.
    pub capabilities: &'a [Capability],
    pub output: OutputFormat,
}

impl Shot<'_> {
    /// The container that is meant.
    pub fn aim(&self, pod: &Pod) -> Result<TargetContainer, Error> {
        check_pod(pod, Domain::Processes)?;
        TargetContainer::choose(pod, self.target.of.container.as_deref())
    }

    /// Sends it and says to whom.
    pub async fn fire(
        &self,
        pod: &Pod,
        container: &TargetContainer,
    ) -> Result<Vec<ProcessSignal>, Error> {
        let role = Role::Process(container.role(pod, self.capabilities));
        let spec = AgentSpec { image: self.target.of.agent.image.clone(), role };
        let (mut session, installed) =
            ensure_agent(self.cluster, self.name, pod, &spec, &mut note).await?;
        if installed == Installed::Now {
            note(&format!(
                "pod/{} agent installed: {} (it stays in the pod's spec)",
                self.name, session.container
            ));
        }
        let target = Processes {
            container: container.container.name.clone(),
            id: container.id.clone(),
            matching: self.target.matching.clone(),
        };
        let plan = SignalPlan { target, signal: self.signal };
        session.send(&Request::Signal { plan }).await?;
        let mut sent = Vec::new();
        loop {
            match session.next().await {
                Ok(event @ Event::Signals { .. }) => {
                    self.tell(&event)?;
                    if let Event::Signals { signals } = event {
                        sent = signals;
                    }
                }
                Ok(Event::Failed { failure }) => return Err(sweep::failure(self.name, failure)),
                Ok(_) => {}
                // The agent has done what it was asked for, or has ended with the container.
                Err(SessionError::Lost(_)) if !sent.is_empty() => return Ok(sent),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&self, event: &Event) -> Result<(), Error> {
        match self.output {
            OutputFormat::Json => {
                let line = json::event(self.cluster.namespace(), self.name, event);
                writeln!(stdout(), "{line}")?;
            }
            OutputFormat::Text => writeln!(stdout(), "{}", text::event(self.name, event))?,
        }
        Ok(())
    }
}

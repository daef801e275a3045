//! What each subcommand does, step by step.

mod burn;
mod delete;
mod disrupt;
mod doctor;
mod fail;
mod fault;
mod fill;
mod image;
mod install;
mod interrupt;
mod kill;
mod matrix;
mod network;
mod observe;
mod outcome;
mod partition;
mod pause;
mod process;
mod rbac;
mod restore;
mod revert;
mod signal;
mod start;
mod status;
mod swap;
mod sweep;
mod syscall;
mod uninstall;
mod url;
mod version;

use std::io::{Write as _, stdout};

use crate::{
    cli::{Cli, Command},
    cluster::Session,
    exit::{Error, Exit},
    plan::PodName,
    report::{Follow, be_quiet, say},
};

/// Carries out one invocation.
pub async fn run(cli: Cli) -> Result<Exit, Error> {
    if cli.speech.quiet {
        be_quiet();
    }
    let connection = &cli.connection;
    match &cli.command {
        Command::Install(args) => install::run(connection, args).await,
        Command::Uninstall(args) => uninstall::run(connection, args).await,
        Command::Disrupt(args) => Box::pin(disrupt::run(connection, args)).await,
        Command::Partition(args) => Box::pin(partition::run(connection, args)).await,
        Command::Pause(args) => Box::pin(pause::run(connection, args)).await,
        Command::Burn(args) => Box::pin(burn::run(connection, &args.what)).await,
        Command::Fill(args) => Box::pin(fill::run(connection, &args.what)).await,
        Command::Kill(args) => Box::pin(kill::run(connection, args)).await,
        Command::Delete(args) => Box::pin(delete::run(connection, args)).await,
        Command::Fail(args) => Box::pin(fail::run(connection, args)).await,
        Command::Signal(args) => Box::pin(signal::run(connection, args)).await,
        Command::Syscall(args) => Box::pin(syscall::run(connection, args)).await,
        Command::Observe(args) => Box::pin(observe::run(connection, args)).await,
        Command::Doctor(args) => Box::pin(doctor::run(connection, args)).await,
        Command::Status(args) => status::run(connection, args).await,
        Command::Revert(args) => revert::run(connection, args).await,
        Command::Image(args) => image::run(args),
        Command::Rbac(args) => rbac::run(args),
        Command::Version(args) => version::run(connection, args).await,
        Command::Restore(args) => restore::run(connection, args).await,
    }
}

/// A line of data.
fn print_line(line: &impl std::fmt::Display) -> Result<(), Error> {
    writeln!(stdout(), "{line}")?;
    Ok(())
}

/// Says that an agent was put in, and that its container stays.
fn installed(report: &mut dyn Follow, name: &PodName, session: &Session) {
    report.note(&format!(
        "pod/{name} agent installed: {} (it stays in the pod's spec)",
        session.container
    ));
}

/// Something worth a line, that is not data.
fn note(text: &str) {
    say(text);
}

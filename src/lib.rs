//! The engine of `kubectl pod-chaos`: breaks one chosen pod, on purpose, for a while.
//!
//! - [`cli`]: flags, as clap structs.
//! - [`completion`]: what kubectl offers to complete a command line with.
//! - [`image`]: the agent's image as a file.
//! - [`plan`]: flags become one validated plan; nothing past here is text.
//! - [`cluster`]: the only place that talks to the API server.
//! - [`command`]: what each subcommand does, step by step.
//! - [`report`]: what a person or a program reads of it.
#![forbid(unsafe_code)]

pub mod cli;
pub mod cluster;
pub mod command;
pub mod completion;
pub mod exit;
pub mod image;
pub mod plan;
pub mod report;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::exit::Exit;

/// Runs one invocation of the plugin, `args` with the program's name first, and says how it went.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<_> = args.into_iter().collect();
    if args.first().is_some_and(|program| completion::wanted(program)) {
        return completion::run(args[1..].to_vec());
    }
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no error; clap knows which.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(command::run(cli));
            // A lookup that still runs in the pool must not hold up the exit.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(exit::Error::internal("starting the runtime", error)),
    };
    outcome.unwrap_or_else(|error| error.print())
}

/// What clap prints itself is in colours on a terminal, unless NO_COLOR is set: it knows that one, and the flag only
/// when all is parsed.
fn parse(args: Vec<OsString>) -> Result<cli::Cli, clap::Error> {
    let mut command = cli::Cli::command();
    if args.iter().any(|arg| arg == "--no-color") {
        command = command.color(clap::ColorChoice::Never);
    }
    let matches = command.try_get_matches_from_mut(&args)?;
    let mut cli =
        cli::Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    cli.connection.also(cli::Leading::of(args));
    Ok(cli)
}

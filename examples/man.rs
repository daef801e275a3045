//! Writes the man pages into a folder: `cargo run --example man -- FOLDER`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("name the folder to write the man pages into"));
    };
    write(&folder)
}

/// A page for each command.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // A page is found by its name, which has no space.
    let command =
        pod_chaos::cli::Cli::command().name("kubectl-pod-chaos").bin_name("kubectl-pod-chaos");
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder)
}

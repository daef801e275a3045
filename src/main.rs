//! The kubectl plugin: parse, run, map the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pod_chaos::run(std::env::args_os()).into()
}

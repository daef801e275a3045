//! What benchmarks without a lab have in common: programs that run until they are told to end, and the agent, which is
//! one of them.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// What the agent finds processes by: part of the path of their control group.
pub const ID: &str = "0badc0de0badc0de";

pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

pub fn signal(name: &str, pid: u32) -> Outcome {
    Command::new("kill").args(["-s", name, &pid.to_string()]).status()?;
    Ok(())
}

/// A program that runs until it is told to end.
pub struct Running(pub Child);

impl Running {
    /// Starts one that is spoken to.
    pub fn start(command: &mut Command) -> Outcome<Self> {
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    pub fn end(mut self) -> Outcome {
        signal("TERM", self.0.id())?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent.
pub struct Agent {
    running: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Agent {
    /// Beside the container.
    pub fn start(program: &str) -> Outcome<Self> {
        Self::of(Running::start(Command::new(program).arg("serve"))?)
    }

    /// One that has been started.
    pub fn of(mut running: Running) -> Outcome<Self> {
        let input = running.0.stdin.take().ok_or("no stdin")?;
        let output = BufReader::new(running.0.stdout.take().ok_or("no stdout")?);
        let mut agent = Self { running, input, output };
        agent.until("hello")?;
        Ok(agent)
    }

    /// Asks for a fault, and waits until it is in force.
    pub fn ask(&mut self, fault: &Value) -> Outcome {
        let target = json!({ "container": "app", "id": ID });
        let plan =
            json!({ "id": "00000001", "running-time": "1m", "target": target, "fault": fault });
        writeln!(self.input, "{}", json!({ "request": "disturb", "plan": plan }))?;
        self.until("process-in-force")
    }

    fn until(&mut self, event: &str) -> Outcome {
        let mut line = String::new();
        while !line.contains(event) {
            line.clear();
            if self.output.read_line(&mut line)? == 0 || line.contains("\"failed\"") {
                return Err(format!("the agent: {line}").into());
            }
        }
        Ok(())
    }

    pub fn end(self) -> Outcome {
        self.running.end()
    }
}

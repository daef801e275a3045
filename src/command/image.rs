//! `image`: the agent's image as a file, or into the nodes of a local cluster.

use std::{
    fs::{self, File},
    io::{self, Write as _, stderr, stdout},
    process::{Command, Stdio},
};

use crate::{
    cli::{ContentArgs, ImageAction, ImageCommand, LoadArgs, SaveArgs},
    exit::{Error, Exit},
    image::{Agent, Architecture, Archive, Format, Loader, Missing, built_in},
    plan::Image,
};

pub(super) fn run(args: &ImageCommand) -> Result<Exit, Error> {
    match &args.action {
        ImageAction::Save(args) => save(args),
        ImageAction::Load(args) => load(args),
    }
}

fn save(args: &SaveArgs) -> Result<Exit, Error> {
    let name = &args.content.name;
    let making = |error: io::Error| Error::internal("making the image", error);
    let archive = match args.format {
        Format::Docker => Archive::docker(name, &one_agent(&args.content)?),
        Format::Oci => Archive::oci(name, &agents(&args.content)?),
    }
    .map_err(making)?;
    if args.output.as_os_str() == "-" {
        archive.write(stdout().lock())?;
        writeln!(stderr(), "{name} {}", archive.digest)?;
    } else {
        let write = || archive.write(File::create(&args.output)?);
        write().map_err(|error| {
            Error::internal(&format!("writing {}", args.output.display()), error)
        })?;
        writeln!(stdout(), "{name} {}", archive.digest)?;
    }
    Ok(Exit::Done)
}

fn load(args: &LoadArgs) -> Result<Exit, Error> {
    let name = &args.content.name;
    let loader = loader(args);
    let program = loader.program();
    let making = |error: io::Error| Error::internal("making the image", error);
    let archive = Archive::docker(name, &one_agent(&args.content)?).map_err(making)?;
    let folder = tempfile::tempdir().map_err(making)?;
    let file = folder.path().join("pod-chaos-agent.tar");
    File::create(&file).and_then(|file| archive.write(file)).map_err(making)?;
    let status = Command::new(program)
        .args(loader.arguments(&file))
        .stdin(Stdio::null())
        // Data on stdout is ours alone.
        .stdout(io::stderr())
        .status()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::refused(Missing(program)).hint(format!(
                "install {program}, or write the image with `kubectl pod-chaos image save` and load it \
                 by hand"
            )),
            _ => Error::internal(&format!("starting {program}"), error),
        })?;
    if !status.success() {
        return Err(Error::new(
            Exit::Failed,
            format_args!("{program} did not load {name}: {status}"),
        ));
    }
    writeln!(stdout(), "{name} loaded by {program}")?;
    if *name != Image::default() {
        writeln!(stderr(), "note: name it with -g {name}, or set POD_CHAOS_IMAGE to it")?;
    }
    Ok(Exit::Done)
}

fn loader(args: &LoadArgs) -> Loader {
    match (&args.kind, &args.minikube, &args.k3d, &args.containerd) {
        (Some(cluster), ..) => Loader::Kind(cluster.clone()),
        (_, Some(profile), ..) => Loader::Minikube(profile.clone()),
        (_, _, Some(cluster), _) => Loader::K3d(cluster.clone()),
        (.., Some(socket)) => Loader::Containerd(socket.clone()),
        _ => Loader::Docker,
    }
}

/// The agents that were asked for.
fn agents(content: &ContentArgs) -> Result<Vec<Agent>, Error> {
    let mut agents = if content.agents.is_empty() { built_in() } else { named(content)? };
    if agents.is_empty() {
        return Err(Error::refused("this build of the plugin brings no agent").hint(
            "released plugins do; else build one and name it with --agent, or use `scripts/images agent` \
             of the project",
        ));
    }
    agents.retain(|agent| content.arch.is_none_or(|arch| arch == agent.architecture));
    agents.sort_by_key(|agent| agent.architecture);
    match content.arch {
        Some(arch) if agents.is_empty() => {
            Err(Error::refused(format_args!("there is no agent for {arch}")))
        }
        _ => Ok(agents),
    }
}

fn named(content: &ContentArgs) -> Result<Vec<Agent>, Error> {
    let mut agents: Vec<Agent> = Vec::new();
    for path in &content.agents {
        let doing = format!("reading the agent {}", path.display());
        let binary = fs::read(path).map_err(|error| Error::internal(&doing, error))?;
        let agent = Agent::try_from(binary)
            .map_err(|error| Error::refused(format_args!("{doing}: {error}")))?;
        if agents.iter().any(|other| other.architecture == agent.architecture) {
            return Err(Error::refused(format_args!("two agents for {}", agent.architecture)));
        }
        agents.push(agent);
    }
    Ok(agents)
}

/// The one agent of an image of one architecture.
fn one_agent(content: &ContentArgs) -> Result<Agent, Error> {
    let mut agents = agents(content)?;
    if agents.len() > 1 {
        let here = Architecture::of_this_machine();
        agents.retain(|agent| Some(agent.architecture) == here);
    }
    agents.pop().ok_or_else(|| {
        Error::refused("there is no agent for this machine's architecture")
            .hint("name that of the nodes with --arch amd64 or --arch arm64")
    })
}

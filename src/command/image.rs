//! `image`: the agent's image, or the plugin's, as a file, or into the nodes of a local cluster.

use std::{
    fs::{self, File},
    io::{self, Write as _, stderr, stdout},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    cli::{ContentArgs, ImageAction, ImageCommand, LoadArgs, SaveArgs},
    exit::{Error, Exit},
    image::{Architecture, Archive, Format, Kind, Loader, Missing, Program, built_in},
    plan::Image,
};

pub(super) fn run(args: &ImageCommand) -> Result<Exit, Error> {
    match &args.action {
        ImageAction::Save(args) => save(args),
        ImageAction::Load(args) => load(args),
    }
}

fn save(args: &SaveArgs) -> Result<Exit, Error> {
    let name = &name(&args.content);
    let making = |error: io::Error| Error::internal("making the image", error);
    let archive = match args.format {
        Format::Docker => Archive::docker(name, &one(&args.content)?),
        Format::Oci => Archive::oci(name, &programs(&args.content)?),
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
    let name = &name(&args.content);
    let loader = loader(args);
    let program = loader.program();
    let making = |error: io::Error| Error::internal("making the image", error);
    let content = one(&args.content)?;
    let archive = Archive::docker(name, &content).map_err(making)?;
    let folder = tempfile::tempdir().map_err(making)?;
    let file = folder.path().join(format!("{}.tar", content.kind.file()));
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
    let (default, flag, variable) = match args.content.plugins {
        Some(_) => (Image::plugin(), "--restorer-image", "POD_CHAOS_RESTORER_IMAGE"),
        None => (Image::default(), "-g", "POD_CHAOS_IMAGE"),
    };
    if *name != default {
        writeln!(stderr(), "note: name it with {flag} {name}, or set {variable} to it")?;
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

fn name(content: &ContentArgs) -> Image {
    let own = || if content.plugins.is_some() { Image::local_plugin() } else { Image::local() };
    content.name.clone().unwrap_or_else(own)
}

/// The programs that were asked for.
fn programs(content: &ContentArgs) -> Result<Vec<Program>, Error> {
    let mut programs = match &content.plugins {
        Some(files) if files.is_empty() => {
            let own = std::env::current_exe();
            let own =
                own.map_err(|error| Error::internal("finding the plugin's own file", error))?;
            read(Kind::Plugin, &[own]).map_err(|error| {
                error.hint("--plugin=FILE names a released one for Linux, of which all are static")
            })?
        }
        Some(files) => read(Kind::Plugin, files)?,
        None if content.agents.is_empty() => built_in(),
        None => read(Kind::Agent, &content.agents)?,
    };
    if programs.is_empty() {
        return Err(Error::refused("this build of the plugin brings no agent").hint(
            "released plugins do; else build one and name it with --agent, or use `scripts/images agent` \
             of the project",
        ));
    }
    programs.retain(|program| content.arch.is_none_or(|arch| arch == program.architecture));
    programs.sort_by_key(|program| program.architecture);
    match content.arch {
        Some(arch) if programs.is_empty() => {
            Err(Error::refused(format_args!("there is no program for {arch}")))
        }
        _ => Ok(programs),
    }
}

fn read(kind: Kind, files: &[PathBuf]) -> Result<Vec<Program>, Error> {
    let mut programs: Vec<Program> = Vec::new();
    for path in files {
        let doing = match kind {
            Kind::Agent => format!("reading the agent {}", path.display()),
            Kind::Plugin => format!("reading the plugin {}", path.display()),
        };
        let binary = fs::read(path).map_err(|error| Error::internal(&doing, error))?;
        let program = Program::new(kind, binary)
            .map_err(|error| Error::refused(format_args!("{doing}: {error}")))?;
        if programs.iter().any(|other| other.architecture == program.architecture) {
            return Err(Error::refused(format_args!("two programs for {}", program.architecture)));
        }
        programs.push(program);
    }
    Ok(programs)
}

/// The one program of an image of one architecture.
fn one(content: &ContentArgs) -> Result<Program, Error> {
    let mut programs = programs(content)?;
    if programs.len() > 1 {
        let here = Architecture::of_this_machine();
        programs.retain(|program| Some(program.architecture) == here);
    }
    programs.pop().ok_or_else(|| {
        Error::refused("there is no program for this machine's architecture")
            .hint("name that of the nodes with --arch amd64 or --arch arm64")
    })
}

//! Where agents come from.

use std::{fs, str::FromStr, sync::Arc};

use super::Image;
use crate::image::{BadProgram, Kind, Program, built_in};

/// Why it was refused.
#[derive(Debug, thiserror::Error)]
pub enum BadBootstrap {
    /// No such way.
    #[error("`{0}` is no way to get an agent into a pod (image, stream or stream=FILE)")]
    Unknown(String),
    /// A plain build brings none.
    #[error("this build of the plugin brings no agent: name the agent's file as stream=FILE")]
    NoAgent,
    /// Of a file.
    #[error("reading the agent {0}: {1}")]
    File(String, std::io::Error),
    /// It cannot be run in a pod.
    #[error("the agent {0}: {1}")]
    Program(String, BadProgram),
}

/// How the agent's program gets into its container.
#[derive(Clone, Debug, Default)]
pub enum Bootstrap {
    /// In an image.
    #[default]
    Image,
    /// From here, one of these by the node's architecture: into a container with an image that is in the pod already,
    /// for clusters that admit no others.
    Stream(Arc<[Program]>),
}

impl FromStr for Bootstrap {
    type Err = BadBootstrap;

    fn from_str(text: &str) -> Result<Self, BadBootstrap> {
        match text.split_once('=').map_or((text, None), |(way, file)| (way, Some(file))) {
            ("image", None) => Ok(Self::Image),
            ("stream", None) => match built_in() {
                none if none.is_empty() => Err(BadBootstrap::NoAgent),
                programs => Ok(Self::Stream(programs.into())),
            },
            ("stream", Some(file)) => {
                let binary = fs::read(file);
                let binary = binary.map_err(|error| BadBootstrap::File(file.to_owned(), error))?;
                let program = Program::new(Kind::Agent, binary);
                let program =
                    program.map_err(|error| BadBootstrap::Program(file.to_owned(), error))?;
                Ok(Self::Stream([program].into()))
            }
            _ => Err(BadBootstrap::Unknown(text.to_owned())),
        }
    }
}

/// Where an agent comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// This image.
    Image(Image),
    /// The plugin, as [`Bootstrap::Stream`].
    Stream(Arc<[Program]>),
}

impl Default for Origin {
    fn default() -> Self {
        Self::Image(Image::default())
    }
}

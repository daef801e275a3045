//! The agent's image.

use std::{fmt, str::FromStr};

/// Why an image was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image's name")]
pub struct BadImage(String);

/// The reference of a container image. Only what no runtime would take is refused here: its own
/// reasons are better than ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image(String);

impl Image {
    /// The agent of this version under the name that it has in files, which no registry knows.
    pub fn local() -> Self {
        Self(concat!("localhost/pod-chaos-agent:v", env!("CARGO_PKG_VERSION")).to_owned())
    }

    /// This very plugin under the name that it has in files.
    pub fn local_plugin() -> Self {
        Self(concat!("localhost/kubectl-pod-chaos:v", env!("CARGO_PKG_VERSION")).to_owned())
    }

    /// The plugin of this version: [`Image::local_plugin`], or, in a release that has a registry, what
    /// `POD_CHAOS_DEFAULT_PLUGIN_IMAGE` was when it was built.
    pub fn plugin() -> Self {
        option_env!("POD_CHAOS_DEFAULT_PLUGIN_IMAGE")
            .map_or_else(Self::local_plugin, |name| Self(name.to_owned()))
    }

    /// The reference as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no registry has it: the name starts with `localhost/`, as builders call what they keep
    /// to themselves. (`localhost:5000/` is a registry.)
    pub fn is_local(&self) -> bool {
        self.0.starts_with("localhost/")
    }
}

impl Default for Image {
    /// The agent of this version: [`Image::local`], or, in a release that has a registry, what
    /// `POD_CHAOS_DEFAULT_IMAGE` was when it was built, with the digest.
    fn default() -> Self {
        option_env!("POD_CHAOS_DEFAULT_IMAGE")
            .map_or_else(Self::local, |name| Self(name.to_owned()))
    }
}

impl fmt::Display for Image {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for Image {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        let fits = !text.is_empty()
            && text.len() <= 1024
            && text.bytes().all(|b| b.is_ascii_graphic())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if fits { Ok(Self(text.to_owned())) } else { Err(BadImage(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_local_images_from_those_of_a_registry() {
        let local = |image: &str| image.parse::<Image>().unwrap().is_local();
        assert!(local("localhost/agent:v1"));
        assert!(
            !local("localhost:5000/agent:v1") && !local("example.com/agent") && !local("agent")
        );
    }

    #[test]
    fn takes_references_and_refuses_what_is_none() {
        for image in ["agent", "example.com:5000/a/b:v1", "a@sha256:0123", &Image::default().0] {
            assert!(image.parse::<Image>().is_ok(), "{image}");
        }
        for image in ["", " ", "a b", ":v1", "a\n"] {
            assert!(image.parse::<Image>().is_err(), "{image}");
        }
    }
}

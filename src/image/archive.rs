//! An image as one file: docker-archive or OCI layout. The same programs give the same bytes.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use clap::ValueEnum;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::Program;
use crate::plan::Image;

/// Nothing in an image says when it was made.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Formats of an image as a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What `docker save` writes and every engine reads; of one architecture
    #[default]
    Docker,
    /// An image layout of the Open Container Initiative, of both architectures: to push to a registry
    Oci,
}

/// An image that is about to be written.
pub struct Archive {
    /// Names and contents, in the order they are written.
    files: Vec<(String, Vec<u8>)>,
    /// The image's digest.
    pub digest: String,
}

impl Archive {
    /// The image of that program under that name, as `docker load` takes it
    /// (moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format"). Its digest is the
    /// image's id.
    pub fn docker(name: &Image, program: &Program) -> io::Result<Self> {
        let layer = layer(program)?;
        let layer_digest = hex(&layer);
        let config = config(program, &layer_digest);
        let id = hex(&config);
        let manifest = json!([{
            "Config": format!("{id}.json"),
            "RepoTags": [name.to_string()],
            "Layers": [format!("{layer_digest}/layer.tar")],
        }]);
        Ok(Self {
            files: vec![
                ("manifest.json".to_owned(), bytes(&manifest)),
                (format!("{id}.json"), config),
                (format!("{layer_digest}/layer.tar"), layer),
            ],
            digest: format!("sha256:{id}"),
        })
    }

    /// The image for all these programs' architectures under that name, as an image layout
    /// (OCI image-spec 1.1, image-layout.md). Its digest is what a registry calls it by.
    pub fn oci(name: &Image, programs: &[Program]) -> io::Result<Self> {
        let mut files =
            vec![("oci-layout".to_owned(), bytes(&json!({"imageLayoutVersion": "1.0.0"})))];
        let mut blob = |media_type: &str, content: Vec<u8>| {
            let digest = hex(&content);
            let descriptor = json!({
                "mediaType": format!("application/vnd.oci.image.{media_type}"),
                "digest": format!("sha256:{digest}"),
                "size": content.len(),
            });
            files.push((format!("blobs/sha256/{digest}"), content));
            descriptor
        };
        let mut manifests = Vec::new();
        for program in programs {
            let layer = layer(program)?;
            let config = blob("config.v1+json", config(program, &hex(&layer)));
            let layer = blob("layer.v1.tar+gzip", packed(&layer)?);
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config,
                "layers": [layer],
            });
            let mut manifest = blob("manifest.v1+json", bytes(&manifest));
            manifest["platform"] =
                json!({"os": "linux", "architecture": program.architecture.as_str()});
            manifests.push(manifest);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let mut index = blob("index.v1+json", bytes(&index));
        let digest = index["digest"].as_str().unwrap_or_default().to_owned();
        index["annotations"] = json!({
            "io.containerd.image.name": name.to_string(),
            "org.opencontainers.image.ref.name": name.to_string().rsplit(':').next(),
        });
        let top = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [index],
        });
        files.push(("index.json".to_owned(), bytes(&top)));
        Ok(Self { files, digest })
    }

    /// Writes it as a tar.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut tar = Builder::new(to);
        for (name, content) in &self.files {
            append(&mut tar, name, 0o644, content)?;
        }
        tar.into_inner()?.flush()
    }
}

/// The one layer: the program, and nothing else.
fn layer(program: &Program) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, program.kind.file(), 0o755, &program.binary)?;
    tar.into_inner()
}

fn append(tar: &mut Builder<impl Write>, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, content)
}

fn config(program: &Program, layer_digest: &str) -> Vec<u8> {
    bytes(&json!({
        "architecture": program.architecture.as_str(),
        "os": "linux",
        "created": CREATED,
        "config": {"User": "0", "WorkingDir": "/", "Entrypoint": [format!("/{}", program.kind.file())],
                   "Cmd": [program.kind.command()]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created": CREATED}],
    }))
}

fn packed(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzBuilder::new().write(Vec::new(), Compression::best());
    packer.write_all(content)?;
    packer.finish()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The SHA-256 sum, in hexadecimal.
fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

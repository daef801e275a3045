//! Puts the agents into the plugin when `POD_CHAOS_AGENTS` names a folder with them: one binary for
//! each architecture, named `amd64` and `arm64`. A plain build goes without.

use std::{env, fs, io::Write as _, path::Path};

use flate2::{Compression, GzBuilder};

fn main() {
    println!("cargo::rerun-if-env-changed=POD_CHAOS_AGENTS");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let folder = env::var("POD_CHAOS_AGENTS").ok();
    for architecture in ["amd64", "arm64"] {
        let packed = folder.as_ref().map_or_else(Vec::new, |folder| {
            let path = Path::new(folder).join(architecture);
            println!("cargo::rerun-if-changed={}", path.display());
            let agent =
                fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut packer = GzBuilder::new().write(Vec::new(), Compression::best());
            packer.write_all(&agent).and_then(|()| packer.finish()).expect("memory takes it")
        });
        fs::write(Path::new(&out).join(format!("agent-{architecture}.gz")), packed)
            .expect("OUT_DIR can be written");
    }
}

//! How full the file system of a folder is, and whose it is.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use nix::{
    errno::Errno,
    sys::{
        statfs::{FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs},
        statvfs::statvfs,
    },
};
use pod_chaos_protocol::DiskUsage;

/// The kubelet makes these for each container, on a disk of the node's (`makeHostsMount()` in
/// pkg/kubelet/kubelet_pods.go; `terminationMessagePath`).
const OF_THE_NODE: [&str; 2] = ["/etc/hosts", "/dev/termination-log"];

/// The file system of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that it has in all, also those that only root may have.
    pub size: u64,
    /// How much of it is used.
    pub usage: DiskUsage,
    /// Whose it is.
    pub owner: Owner,
}

/// Who else has to do with a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The node, for its pods' files or images: the kubelet evicts pods when it fills.
    Node,
    /// The memory of the container.
    Memory,
    /// Nobody: a volume.
    Volume,
}

impl Disk {
    /// That of this folder, as it is now.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let all = statvfs(folder).map_err(|errno| io::Error::from_raw_os_error(errno as i32))?;
        let block = all.fragment_size();
        Ok(Self {
            size: all.blocks() * block,
            usage: DiskUsage {
                used: all.blocks().saturating_sub(all.blocks_free()) * block,
                available: all.blocks_available() * block,
                held: 0,
            },
            owner: owner(folder)?,
        })
    }
}

fn owner(folder: &Path) -> io::Result<Owner> {
    let kind = statfs(folder)
        .map(|of| of.filesystem_type())
        .map_err(|errno: Errno| io::Error::from(errno))?;
    let device = fs::metadata(folder)?.dev();
    let nodes = OF_THE_NODE.into_iter().filter_map(|path| fs::metadata(path).ok());
    let is_nodes = nodes.map(|found| found.dev()).any(|of| of == device);
    Ok(owner_of(kind, is_nodes))
}

/// What a container writes into its image (`overlay`) is on a disk of the node's too.
fn owner_of(kind: FsType, is_nodes: bool) -> Owner {
    match kind {
        TMPFS_MAGIC => Owner::Memory,
        OVERLAYFS_SUPER_MAGIC => Owner::Node,
        _ if is_nodes => Owner::Node,
        _ => Owner::Volume,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_file_system_of_a_folder() {
        let disk = Disk::of(Path::new("/")).unwrap();
        assert!(disk.size >= disk.usage.used && disk.usage.used > 0, "{disk:?}");
        assert!(Disk::of(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn tells_whose_it_is() {
        assert_eq!(owner_of(TMPFS_MAGIC, true), Owner::Memory);
        assert_eq!(owner_of(OVERLAYFS_SUPER_MAGIC, false), Owner::Node);
        assert_eq!(owner_of(FsType(0xef53), true), Owner::Node);
        assert_eq!(owner_of(FsType(0xef53), false), Owner::Volume);
    }
}

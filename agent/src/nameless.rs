//! Files without a name, which nobody else finds and which go with the process that has them, however it ends.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::{errno::Errno, fcntl::OFlag};

use crate::processes::OWN_NAME;

/// A new one on the file system of that folder (`O_TMPFILE` of open(2)); where that cannot make one, as overlayfs before
/// Linux 6.2, one that loses its name at once.
pub fn create(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(OFlag::O_TMPFILE.bits()).open(folder) {
        Err(error) if is_unknown(&error) => {
            let name = folder.join(format!(".{OWN_NAME}-{}", std::process::id()));
            let file = options.create_new(true).open(&name)?;
            fs::remove_file(&name)?;
            Ok(file)
        }
        created => created,
    }
}

/// Whether the kernel or the file system does not know such files.
fn is_unknown(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL))
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn cannot_be_found() {
        let folder =
            std::env::temp_dir().join(format!("pod-chaos-nameless-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut file = create(&folder).unwrap();
        file.write_all(b"here").unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
        assert_eq!(create(&folder).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

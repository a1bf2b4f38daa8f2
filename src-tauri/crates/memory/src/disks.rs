//! The disk that holds a folder.

use std::path::Path;

use embedbar_contract::DiskReading;
use sysinfo::{DiskRefreshKind, Disks};

/// The disk on which `folder` lies, by the longest mount point that contains it.
pub(crate) fn holding(folder: &Path) -> Option<DiskReading> {
    // A link may lead to another disk.
    let folder = folder.canonicalize().ok()?;
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage()).ok()?;
    let disk = disks
        .iter()
        .filter(|disk| folder.starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().components().count())?;
    // It has no error; a disk without a size is one that could not be read.
    (disk.total_space() > 0).then(|| DiskReading {
        mounted_at: disk.mount_point().display().to_string(),
        total_bytes: disk.total_space(),
        available_bytes: disk.available_space(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_has_no_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(holding(&folder.path().join("none")), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_disk_is_the_one_that_the_kernels_system_call_names() {
        let folder = std::env::current_dir().expect("there is one");
        let Some(disk) = holding(&folder) else {
            // In a container whose root is not a disk that sysinfo lists there is nothing to compare.
            let mounts = std::fs::read_to_string("/proc/mounts").expect("it can be read");
            assert!(!mounts.lines().any(|line| line.starts_with("/dev/")), "a disk was missed in {mounts}");
            return;
        };
        let told = rustix::fs::statvfs(&folder).expect("it can be asked");
        assert_eq!(disk.total_bytes, told.f_blocks * told.f_frsize);
        let available = told.f_bavail * told.f_frsize;
        assert!(disk.available_bytes.abs_diff(available) < 1 << 30, "{} and {available}", disk.available_bytes);
    }
}

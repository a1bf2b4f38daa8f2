//! The memory limits of the control groups that this process lives in, from its own up to the root.
//!
//! Both versions are read: the memory controller is in one of them, and the other's tree has no limits. What a group uses is
//! its working set: `memory.current` less the file pages that have not been touched lately, since those are dropped before
//! anything else. Active file pages stay counted, because mapped weights in use are among them.

use std::path::{Component, Path, PathBuf};

use super::parse::figure;

/// A group's limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Limit {
    /// What the group may use at most.
    pub(super) bytes: u64,
    /// What it uses and cannot easily drop; `None` where that cannot be read.
    pub(super) working_set: Option<u64>,
}

/// The names of a version's files.
struct Version {
    limits: &'static [&'static str],
    current: &'static str,
    inactive_file: &'static str,
}

// Beyond `memory.high` a group is throttled and reclaimed from: for a model that is as good as the end.
const V2: Version =
    Version { limits: &["memory.max", "memory.high"], current: "memory.current", inactive_file: "inactive_file" };
const V1: Version = Version {
    limits: &["memory.limit_in_bytes"],
    current: "memory.usage_in_bytes",
    inactive_file: "total_inactive_file",
};

/// All limits that are set, the own group's first. `read` gives a file's text, or `None` where it cannot be read.
pub(super) fn limits(read: impl Fn(&Path) -> Option<String>) -> Vec<Limit> {
    let (Some(groups), Some(mounts)) = (read(Path::new("/proc/self/cgroup")), read(Path::new("/proc/self/mountinfo")))
    else {
        return Vec::new();
    };
    let mut limits = Vec::new();
    for (version, group, mount) in
        [(&V2, group_v2(&groups), mount_v2(&mounts)), (&V1, group_v1(&groups), mount_v1(&mounts))]
    {
        let (Some(group), Some(mount)) = (group, mount) else { continue };
        for folder in folders(&mount, group) {
            limits.extend(limit(version, &folder, &read));
        }
    }
    limits
}

fn limit(version: &Version, folder: &Path, read: &impl Fn(&Path) -> Option<String>) -> Option<Limit> {
    // `max` stands for no limit and is no number.
    let set = |name: &&str| read(&folder.join(name))?.trim().parse::<u64>().ok();
    let bytes = version.limits.iter().filter_map(set).min()?;
    let current = read(&folder.join(version.current)).and_then(|text| text.trim().parse::<u64>().ok());
    let idle = read(&folder.join("memory.stat")).and_then(|text| figure(&text, version.inactive_file)).unwrap_or(0);
    Some(Limit { bytes, working_set: current.map(|current| current.saturating_sub(idle)) })
}

/// Where a tree of groups is mounted.
#[derive(Debug, Eq, PartialEq)]
struct Mount {
    /// The group that is mounted.
    root: PathBuf,
    /// The folder where it is mounted.
    point: PathBuf,
}

fn group_v2(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

fn group_v1(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_memory = fields.next()?.split(',').any(|controller| controller == "memory");
        is_memory.then(|| fields.next()).flatten()
    })
}

fn mount_v2(mountinfo: &str) -> Option<Mount> {
    mount(mountinfo, |kind, _| kind == "cgroup2")
}

fn mount_v1(mountinfo: &str) -> Option<Mount> {
    mount(mountinfo, |kind, options| kind == "cgroup" && options.split(',').any(|option| option == "memory"))
}

/// The first mount whose file system and super options are `wanted`.
fn mount(mountinfo: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<Mount> {
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        if !wanted(kind.next()?, kind.nth(1)?) {
            return None;
        }
        let mut place = place.split(' ').skip(3);
        Some(Mount { root: unescape(place.next()?), point: unescape(place.next()?) })
    })
}

/// The kernel writes blanks, tabs, line ends and backslashes in paths as three octal digits.
fn unescape(path: &str) -> PathBuf {
    let path = path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    PathBuf::from(path)
}

/// The folders of `group` and of all that it lies in, the innermost first, as far as they are mounted.
fn folders(mount: &Mount, group: &str) -> Vec<PathBuf> {
    // A group outside of what is mounted (another namespace's, written with `..`) cannot be walked; its mounted root can.
    let inside = Path::new(group)
        .strip_prefix(&mount.root)
        .ok()
        .filter(|inside| inside.components().all(|part| matches!(part, Component::Normal(_))))
        .unwrap_or(Path::new(""));
    inside
        .ancestors()
        .map(|folder| if folder == Path::new("") { mount.point.clone() } else { mount.point.join(folder) })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MOUNTINFO_V2: &str = include_str!("../../samples/mountinfo_v2.txt");
    const MOUNTINFO_HYBRID: &str = include_str!("../../samples/mountinfo_hybrid.txt");
    const MEMORY_STAT: &str = include_str!("../../samples/memory_stat_v2.txt");
    const MIB: u64 = 1 << 20;

    fn limits_of(files: &[(&str, &str)]) -> Vec<Limit> {
        let files: BTreeMap<_, _> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        limits(|path| files.get(path).cloned())
    }

    #[test]
    fn limits_are_read_from_the_own_group_up_to_the_root() {
        let found = limits_of(&[
            ("/proc/self/cgroup", "0::/user.slice/app.scope\n"),
            ("/proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("/sys/fs/cgroup/user.slice/app.scope/memory.max", "max\n"),
            ("/sys/fs/cgroup/user.slice/app.scope/memory.high", "4294967296\n"),
            ("/sys/fs/cgroup/user.slice/app.scope/memory.current", "3221225472\n"),
            ("/sys/fs/cgroup/user.slice/app.scope/memory.stat", MEMORY_STAT),
            ("/sys/fs/cgroup/user.slice/memory.max", "8589934592\n"),
            ("/sys/fs/cgroup/user.slice/memory.high", "max\n"),
        ]);
        let own = Limit { bytes: 4096 * MIB, working_set: Some(2048 * MIB) };
        assert_eq!(found, [own, Limit { bytes: 8192 * MIB, working_set: None }]);
    }

    #[test]
    fn a_container_finds_its_group_below_what_is_mounted() {
        let found = limits_of(&[
            ("/proc/self/cgroup", "0::/system.slice/docker-4f0c.scope/inner\n"),
            ("/proc/self/mountinfo", MOUNTINFO_V2),
            ("/sys/fs/cgroup/inner/memory.max", "100\n"),
            ("/sys/fs/cgroup/memory.max", "200\n"),
            ("/sys/fs/cgroup/memory.current", "50\n"),
        ]);
        assert_eq!(found.iter().map(|limit| limit.bytes).collect::<Vec<_>>(), [100, 200]);
        assert_eq!(found[1].working_set, Some(50), "without memory.stat all of it counts");
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_leaves_the_mounted_root() {
        for group in ["/../../elsewhere", "/user.slice/x", "", "relative/../.."] {
            let found = limits_of(&[
                ("/proc/self/cgroup", &format!("0::{group}\n")),
                ("/proc/self/mountinfo", MOUNTINFO_V2),
                ("/sys/fs/cgroup/memory.max", "200\n"),
            ]);
            assert_eq!(found.iter().map(|limit| limit.bytes).collect::<Vec<_>>(), [200], "{group:?}");
        }
    }

    #[test]
    fn the_first_version_is_read_where_it_has_the_memory_controller() {
        let found = limits_of(&[
            ("/proc/self/cgroup", "4:cpu,memory:/box\n3:cpuset:/\n0::/\n"),
            ("/proc/self/mountinfo", MOUNTINFO_HYBRID),
            ("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1000\n"),
            ("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "900\n"),
            ("/sys/fs/cgroup/memory/box/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(found[0], Limit { bytes: 1000, working_set: Some(600) });
        assert_eq!(found[1].bytes, 9_223_372_036_854_771_712, "no limit, in that version's words");
    }

    #[test]
    fn a_blank_in_a_path_is_decoded() {
        let mountinfo = "30 20 0:26 / /run/my\\040groups rw - cgroup2 cgroup2 rw\n";
        let expected = Mount { root: PathBuf::from("/"), point: PathBuf::from("/run/my groups") };
        assert_eq!(mount_v2(mountinfo), Some(expected));
    }

    #[test]
    fn garbage_gives_no_limits() {
        assert_eq!(limits(|_| None), []);
        assert_eq!(limits(|_| Some("garbage".to_owned())), []);
        let group = ("/proc/self/cgroup", "0::/\n");
        let mounts = ("/proc/self/mountinfo", "30 20 0:26 / /g rw - cgroup2 cgroup2 rw\n");
        for value in ["", "-1", "99999999999999999999999", "max", "1.5", "\u{0}"] {
            assert_eq!(limits_of(&[group, mounts, ("/g/memory.max", value)]), [], "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_walk_panic_or_leave_the_mount(groups in "\\PC{0,80}", tail in "[a-z./]{0,40}") {
            limits(|_| Some(groups.clone()));
            let mount = Mount { root: PathBuf::from("/r"), point: PathBuf::from("/g") };
            for folder in folders(&mount, &format!("/r/{tail}")) {
                prop_assert!(folder.starts_with("/g"));
                prop_assert!(folder.components().all(|part| part != Component::ParentDir));
            }
        }
    }
}

//! Finds out which program listens on a port, for the message that says so.
//!
//! Best effort: a process of another user cannot be seen. Nothing is decided by the answer.

#[cfg(target_os = "linux")]
pub(crate) use linux::holder;
#[cfg(not(target_os = "linux"))]
pub(crate) use lsof::holder;

/// How a process is named to people.
fn described(name: &str, process: &str) -> String {
    format!("{name} (process {process})")
}

/// Linux: the kernel's tables of sockets lead to an inode, the open files of the processes to its owner.
#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Name and process id of the program that listens on `port`.
    pub(crate) async fn holder(port: u16) -> Option<String> {
        tokio::task::spawn_blocking(move || search(port)).await.ok().flatten()
    }

    fn search(port: u16) -> Option<String> {
        let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| listening_inodes(&table, port))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        if sockets.is_empty() {
            return None;
        }
        // `/proc/self` is a second name of one of them.
        let is_process =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
        let mut processes =
            fs::read_dir("/proc").ok()?.filter_map(Result::ok).map(|entry| entry.path()).filter(is_process);
        processes.find(|process| holds(process, &sockets)).and_then(|process| describe(&process))
    }

    fn holds(process: &Path, sockets: &[String]) -> bool {
        let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
        files
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    }

    fn describe(process: &Path) -> Option<String> {
        // The program's file says more than the main thread's name, which is cut short and which some programs change.
        let file = fs::read_link(process.join("exe")).ok();
        let name = file.as_deref().and_then(Path::file_name).and_then(OsStr::to_str).map(str::to_owned);
        let name = name.or_else(|| fs::read_to_string(process.join("comm")).ok())?;
        let name = name.trim_end().trim_end_matches(" (deleted)");
        Some(super::described(name, process.file_name()?.to_str()?))
    }

    /// The inodes of the sockets that listen on `port`, from the text of `/proc/net/tcp` or `tcp6`.
    pub(super) fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
        const LISTEN: &str = "0A";
        let inode = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
            let is_it = u16::from_str_radix(local_port, 16).ok()? == port && *fields.get(3)? == LISTEN;
            is_it.then(|| fields.get(9)?.parse().ok()).flatten()
        };
        table.lines().filter_map(inode).collect()
    }
}

/// Elsewhere: the program `lsof`, which macOS has.
#[cfg(any(not(target_os = "linux"), test))]
mod lsof {
    /// Name and process id of the program that listens on `port`.
    #[cfg(not(target_os = "linux"))]
    pub(crate) async fn holder(port: u16) -> Option<String> {
        let mut lsof = tokio::process::Command::new("lsof");
        lsof.args(["-nP", &format!("-iTCP:{port}"), "-sTCP:LISTEN", "-Fpc"]).kill_on_drop(true);
        let output = tokio::time::timeout(std::time::Duration::from_secs(3), lsof.output()).await.ok()?.ok()?;
        first_process(&String::from_utf8_lossy(&output.stdout))
    }

    /// The first process in the output of `lsof -Fpc`: a line `p812`, then a line `cnode`.
    pub(super) fn first_process(output: &str) -> Option<String> {
        let process = output.lines().find_map(|line| line.strip_prefix('p'))?;
        let name = output.lines().find_map(|line| line.strip_prefix('c'))?;
        let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| super::described(name, process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_of_lsof_is_named() {
        assert_eq!(lsof::first_process("p812\ncnode\nf12\np900\ncruby\nf3\n").as_deref(), Some("node (process 812)"));
        assert_eq!(lsof::first_process(""), None);
        assert_eq!(lsof::first_process("p812\n"), None);
        assert_eq!(lsof::first_process("p\ncnode\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_sockets_that_listen_on_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1D07 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:1D07 0100007F:C26A 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1\n\
             2: 0100007F:1D08 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0 100 0 0 10 0\n\
             3: 00000000000000000000000001000000:1D07 00000000000000000000000000000000:0000 0A 0:0 0:0 0 1000 0 4714 1 0\n\
             4: 0100007F:1D07 00000000:0000 0A 00000000\n 5: garbage\n\n";
        assert_eq!(linux::listening_inodes(table, 7431), [4711, 4714]);
        assert_eq!(linux::listening_inodes("", 7431), [0_u64; 0]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_port_that_this_process_holds_is_its_own() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = holder(held.local_addr().expect("its address").port()).await.expect("this process holds it");
        assert!(own.ends_with(&format!(" (process {})", std::process::id())), "{own}");
        assert!(own.starts_with("embedbar_gateway"), "the program's name: {own}");
    }
}

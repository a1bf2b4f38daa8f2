//! Who holds this machine's memory: processes, put together by program.
//!
//! sysinfo lists the processes; a platform says what a process's footprint is. Only the largest by resident set are asked for
//! theirs, because the kernel walks a process's page tables for it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Component, Path};

use embedbar_contract::ProgramMemory;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// Processes whose footprint is asked for.
const EXAMINED: usize = 40;

/// Programs that are named.
const NAMED: usize = 12;

/// One process.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Process {
    id: u32,
    program: String,
    resident: u64,
}

/// The programs that hold the most, the largest first; `footprint` gives a process's own, or `None` where it is refused.
pub(crate) fn largest(footprint: impl Fn(u32) -> Option<u64>) -> Option<Vec<ProgramMemory>> {
    let mut system = System::new().ok()?;
    let wanted = ProcessRefreshKind::nothing().with_memory().with_exe(UpdateKind::OnlyIfNotSet).without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let processes: Vec<Process> = system
        .processes()
        .values()
        .map(|process| Process {
            id: process.pid().as_u32(),
            program: program(process.exe(), process.name()),
            resident: process.memory(),
        })
        .collect();
    // A machine that runs us has at least one process.
    (!processes.is_empty()).then(|| together(processes, footprint))
}

/// Adds up by program.
fn together(mut processes: Vec<Process>, footprint: impl Fn(u32) -> Option<u64>) -> Vec<ProgramMemory> {
    processes.sort_by_key(|process| (Reverse(process.resident), process.id));
    let mut programs: HashMap<String, ProgramMemory> = HashMap::new();
    for (rank, process) in processes.into_iter().enumerate() {
        let known = if rank < EXAMINED { footprint(process.id) } else { None };
        let program = programs.entry(process.program).or_insert_with_key(|name| ProgramMemory {
            name: name.clone(),
            processes: 0,
            bytes: 0,
        });
        program.processes += 1;
        program.bytes += known.unwrap_or(process.resident);
    }
    let mut programs: Vec<ProgramMemory> = programs.into_values().filter(|program| program.bytes > 0).collect();
    programs.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    programs.truncate(NAMED);
    programs
}

/// What a person calls the program: the outermost app bundle that the executable lies in, else the executable's own name. The
/// kernel's name for a process is cut off after 15 characters, so it comes last.
fn program(executable: Option<&Path>, name: &OsStr) -> String {
    let from_path = executable.and_then(|path| {
        let bundle = path.components().find_map(|part| match part {
            Component::Normal(part) => {
                Path::new(part).extension().filter(|suffix| *suffix == "app").and_then(|_| Path::new(part).file_stem())
            }
            _ => None,
        });
        bundle.or_else(|| path.file_name())
    });
    // Linux marks an executable that was replaced while it runs.
    from_path.unwrap_or(name).to_string_lossy().trim_end_matches(" (deleted)").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(id: u32, program: &str, resident: u64) -> Process {
        Process { id, program: program.to_owned(), resident }
    }

    #[test]
    fn processes_of_one_program_are_added_up_and_the_largest_comes_first() {
        let processes = vec![process(1, "shell", 10), process(2, "editor", 40), process(3, "editor", 30)];
        let found = together(processes, |id| (id == 2).then_some(5));
        let expected = [("editor", 2, 35), ("shell", 1, 10)].map(|(name, processes, bytes)| ProgramMemory {
            name: name.to_owned(),
            processes,
            bytes,
        });
        assert_eq!(found, expected, "a footprint replaces the resident set where there is one");
    }

    #[test]
    fn only_the_largest_processes_are_examined_and_the_list_is_short() {
        let processes = (0..200).map(|id| process(id, &format!("program {id}"), u64::from(id) + 1)).collect();
        let asked = std::cell::RefCell::new(Vec::new());
        let found = together(processes, |id| {
            asked.borrow_mut().push(id);
            None
        });
        assert_eq!(found.len(), NAMED);
        assert_eq!(found[0].name, "program 199");
        assert_eq!(asked.into_inner(), (160..200).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_program_is_called_what_a_person_calls_it() {
        let of = |path: &str| program(Some(Path::new(path)), OsStr::new("kernel's"));
        let helper =
            "/Applications/Cursor.app/Contents/Frameworks/Cursor Helper (Renderer).app/Contents/MacOS/Cursor Helper";
        assert_eq!(of(helper), "Cursor");
        assert_eq!(of("/usr/bin/dockerd"), "dockerd");
        assert_eq!(of("/opt/tool/embedbar (deleted)"), "embedbar");
        assert_eq!(program(None, OsStr::new("kworker")), "kworker");
    }

    #[test]
    fn this_test_is_among_the_programs_when_it_holds_much() {
        let touched = std::hint::black_box(vec![1_u8; 1 << 30]);
        let found = largest(|_| None).expect("processes can be listed");
        let own = std::env::current_exe().expect("it has a path");
        let own = own.file_name().expect("a name").to_string_lossy();
        let ours = found.iter().find(|program| program.name == own);
        assert!(ours.is_some_and(|program| program.bytes >= 1 << 30), "{own} in {found:?}");
        drop(touched);
    }
}

//! Whatever an editor does to save a file, there is one event with the whole new content, and none for the same content.
//!
//! Nothing here measures time: each test waits for an event, for as long as a loaded machine may take, and looks at all events
//! that have come by then. A state in between must not be among them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use embedbar_settings::{Breakage, EnvFile, FileEvent, LastGood, Offered, Patience, Watch, Written};

const OLD: &str = "# mine\nEMBEDBAR_PRECISION=int8\nEMBEDBAR_PIN=true\n";
const NEW: &str = "# mine\nEMBEDBAR_PRECISION=fp16\nEMBEDBAR_PIN=true\n";

/// For a machine that is busy with other things.
const LONG: Duration = Duration::from_mins(2);

/// What looks unfinished is believed only after a time that no test reaches, unless it wants to.
fn patient() -> Patience {
    Patience { unfinished: Duration::from_hours(1), ..Patience::default() }
}

/// Without the poll, so that it is the events that are tested.
fn by_events() -> Patience {
    Patience { poll: Duration::from_hours(1), ..patient() }
}

struct Desk {
    folder: tempfile::TempDir,
    told: Receiver<FileEvent>,
    _watch: Watch,
}

impl Desk {
    /// Watches `.env`, which has the old content, after `prepare`.
    fn new(patience: Patience, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        prepare(folder.path());
        let (tell, told) = channel();
        let watch = Watch::start(folder.path().join(".env"), patience, move |event| {
            let _the_test_is_over = tell.send(event);
        });
        let mut desk = Self { folder, told, _watch: watch.expect("it can be watched") };
        desk.wait_for(OLD);
        desk
    }

    fn watching(patience: Patience) -> Self {
        Self::new(patience, |folder| write(&folder.join(".env"), OLD))
    }

    fn env(&self) -> PathBuf {
        self.folder.path().join(".env")
    }

    /// Waits until this is told and forgets it; fails where anything else is told before.
    fn wait_for(&mut self, wanted: &str) {
        let event = self.told.recv_timeout(LONG).unwrap_or_else(|_| panic!("never told: {wanted:?}"));
        assert_eq!(said(&event), wanted);
    }

    /// Nothing has been told but what was waited for. A change at the end proves that the watch still works.
    fn and_nothing_else(mut self) {
        let last = "LAST=1\nWHOLE=2\nEMBEDBAR_PIN=false\n";
        write(&self.env(), last);
        self.wait_for(last);
    }
}

fn said(event: &FileEvent) -> String {
    match event {
        FileEvent::Changed(file) => String::from_utf8_lossy(file.document().bytes()).into_owned(),
        FileEvent::Broken { breakage, .. } => format!("broken: {breakage}"),
        FileEvent::Gone => "gone".to_owned(),
        FileEvent::Unreadable(why) => why.clone(),
        _ => "something new".to_owned(),
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("it can be written");
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).expect("it can be renamed");
}

fn run(program: &str, arguments: &[&str], folder: &Path) {
    let status = Command::new(program).args(arguments).current_dir(folder).status().expect("it is everywhere");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

#[test]
fn written_in_place() {
    // VS Code and `echo >`: truncate and write.
    let mut desk = Desk::watching(by_events());
    write(&desk.env(), NEW);
    desk.wait_for(NEW);
    desk.and_nothing_else();
}

#[test]
fn written_in_place_without_truncating() {
    let mut desk = Desk::watching(by_events());
    let mut file = OpenOptions::new().write(true).open(desk.env()).expect("it is there");
    file.write_all(NEW.as_bytes()).and_then(|()| file.set_len(NEW.len() as u64)).expect("it can be written");
    drop(file);
    desk.wait_for(NEW);
    desk.and_nothing_else();
}

#[test]
fn nano_writes_in_place_and_keeps_a_backup() {
    let mut desk = Desk::watching(by_events());
    // With `set backup`: the old content into `.env~`, then truncate, write, flush.
    fs::copy(desk.env(), desk.folder.path().join(".env~")).expect("it can be copied");
    let mut file = OpenOptions::new().write(true).truncate(true).open(desk.env()).expect("it is there");
    for line in NEW.split_inclusive('\n') {
        file.write_all(line.as_bytes()).expect("it can be written");
    }
    file.sync_all().expect("it can be flushed");
    drop(file);
    desk.wait_for(NEW);
    desk.and_nothing_else();
}

#[test]
fn written_beside_and_renamed() {
    let mut desk = Desk::watching(by_events());
    for text in [NEW, OLD, NEW] {
        let beside = desk.folder.path().join(".env.tmp.1234");
        write(&beside, text);
        rename(&beside, &desk.env());
        desk.wait_for(text);
    }
    desk.and_nothing_else();
}

#[test]
fn vim_moves_the_old_one_away() {
    let mut desk = Desk::watching(by_events());
    // `set backupcopy=no`: a test file `4913`, the old one to `.env~`, a new one, then the backup goes.
    let (probe, backup) = (desk.folder.path().join("4913"), desk.folder.path().join(".env~"));
    write(&probe, "");
    fs::remove_file(&probe).expect("it is there");
    rename(&desk.env(), &backup);
    write(&desk.env(), NEW);
    fs::remove_file(&backup).expect("it is there");
    desk.wait_for(NEW);
    desk.and_nothing_else();
}

#[test]
fn vim_itself() {
    if Command::new("vim").arg("--version").output().is_err() {
        eprintln!("skipped: there is no vim");
        return;
    }
    for backupcopy in ["no", "yes", "auto"] {
        let mut desk = Desk::watching(by_events());
        let set = format!("set nocompatible backup writebackup backupcopy={backupcopy}");
        let arguments = ["-u", "NONE", "-i", "NONE", "-es", "-c", &set, "-c", "%s/int8/fp16/", "-c", "wq", ".env"];
        run("vim", &arguments, desk.folder.path());
        desk.wait_for(NEW);
        desk.and_nothing_else();
    }
}

#[test]
fn sed_cp_and_mv() {
    let mut desk = Desk::watching(by_events());
    // What GNU calls `-i`, BSD calls `-i ''`; both know this form.
    run("sed", &["-i.bak", "s/int8/fp16/", ".env"], desk.folder.path());
    desk.wait_for(NEW);
    run("cp", &[".env.bak", ".env"], desk.folder.path());
    desk.wait_for(OLD);
    write(&desk.folder.path().join("other"), NEW);
    run("mv", &["-f", "other", ".env"], desk.folder.path());
    desk.wait_for(NEW);
    desk.and_nothing_else();
}

#[test]
fn a_writer_that_truncates_and_pauses_in_the_middle() {
    let mut desk = Desk::watching(by_events());
    let mut file = File::create(desk.env()).expect("it can be written");
    // Empty, then a beginning, then a cut line; each for longer than the watch waits for quiet.
    let pause = || thread::sleep(Duration::from_millis(700));
    pause();
    for part in [&NEW[..7], &NEW[7..20], &NEW[20..]] {
        file.write_all(part.as_bytes()).expect("it can be written");
        file.flush().expect("it can be flushed");
        if !part.ends_with("true\n") {
            pause();
        }
    }
    drop(file);
    desk.wait_for(NEW);
    desk.and_nothing_else();
}

#[test]
fn the_same_content_again_is_nothing() {
    let desk = Desk::watching(by_events());
    for _ in 0..3 {
        write(&desk.env(), OLD);
        thread::sleep(Duration::from_millis(400));
        let beside = desk.folder.path().join("beside");
        write(&beside, OLD);
        rename(&beside, &desk.env());
        thread::sleep(Duration::from_millis(400));
    }
    desk.and_nothing_else();
}

#[test]
fn reading_it_and_changing_its_neighbours_is_nothing() {
    let desk = Desk::watching(patient());
    for number in 0..20 {
        let mut text = String::new();
        File::open(desk.env()).and_then(|mut file| file.read_to_string(&mut text)).expect("it can be read");
        write(&desk.folder.path().join(format!("neighbour{}", number % 3)), &text);
        thread::sleep(Duration::from_millis(30));
    }
    desk.and_nothing_else();
}

#[test]
fn an_empty_file_is_believed_when_it_stays_so_and_so_is_one_that_is_gone() {
    let mut desk = Desk::watching(Patience { unfinished: Duration::from_millis(600), ..Patience::default() });
    write(&desk.env(), "");
    desk.wait_for("");
    write(&desk.env(), NEW);
    desk.wait_for(NEW);
    fs::remove_file(desk.env()).expect("it is there");
    desk.wait_for("gone");
    write(&desk.env(), OLD);
    desk.wait_for(OLD);
    desk.and_nothing_else();
}

#[test]
fn a_file_that_is_a_link() {
    let mut desk = Desk::new(by_events(), |folder| {
        fs::create_dir(folder.join("dotfiles")).expect("it can be made");
        write(&folder.join("dotfiles/project.env"), OLD);
        symlink("dotfiles/project.env", folder.join(".env")).expect("it can be made");
    });
    let target = desk.folder.path().join("dotfiles/project.env");
    write(&target, NEW);
    desk.wait_for(NEW);
    // Replaced in its own folder, which is not that of the link.
    let beside = desk.folder.path().join("dotfiles/beside");
    write(&beside, OLD);
    rename(&beside, &target);
    desk.wait_for(OLD);
    // Through the link, which stays one.
    let file = EnvFile::read(desk.env()).expect("it is there");
    file.write(NEW.as_bytes(), None).expect("it can be written");
    desk.wait_for(NEW);
    assert!(fs::symlink_metadata(desk.env()).expect("it is there").is_symlink());
    desk.and_nothing_else();
}

#[test]
fn a_link_that_is_pointed_elsewhere() {
    let mut desk = Desk::new(by_events(), |folder| {
        for (name, text) in [("one", OLD), ("other", NEW)] {
            fs::create_dir(folder.join(name)).expect("it can be made");
            write(&folder.join(name).join("env"), text);
        }
        symlink("one/env", folder.join(".env")).expect("it can be made");
    });
    // As `ln -sfn` does it, and by removing it first.
    let beside = desk.folder.path().join("beside");
    symlink("other/env", &beside).expect("it can be made");
    rename(&beside, &desk.env());
    desk.wait_for(NEW);
    // Now the other folder is the one that counts.
    let third = "# in the other folder\nEMBEDBAR_PIN=false\nX=1\n";
    write(&desk.folder.path().join("other/env"), third);
    desk.wait_for(third);
    fs::remove_file(desk.env()).expect("it is there");
    symlink("one/env", desk.env()).expect("it can be made");
    desk.wait_for(OLD);
    desk.and_nothing_else();
}

#[test]
fn the_poll_finds_what_no_event_tells() {
    // A link in the middle of the path is pointed elsewhere: nothing happens in any folder of the file.
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in [("one", OLD), ("other", NEW)] {
        fs::create_dir(folder.path().join(name)).expect("it can be made");
        write(&folder.path().join(name).join(".env"), text);
    }
    let project = folder.path().join("project");
    symlink("one", &project).expect("it can be made");
    let (tell, told) = channel();
    let _watch =
        Watch::start(project.join(".env"), Patience { poll: Duration::from_millis(300), ..patient() }, move |event| {
            let _the_test_is_over = tell.send(said(&event));
        })
        .expect("it can be watched");
    assert_eq!(told.recv_timeout(LONG).as_deref(), Ok(OLD));
    fs::remove_file(&project).expect("it is there");
    symlink("other", &project).expect("it can be made");
    assert_eq!(told.recv_timeout(LONG).as_deref(), Ok(NEW));
    // The whole folder goes and comes back: its watch went with it.
    fs::remove_dir_all(folder.path().join("other")).expect("it is there");
    fs::create_dir(folder.path().join("other")).expect("it can be made");
    write(&project.join(".env"), OLD);
    assert_eq!(told.recv_timeout(LONG).as_deref(), Ok(OLD));
}

#[test]
fn a_file_that_is_not_there_yet_nor_its_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("later/.env");
    let (tell, told) = channel();
    let patience = Patience { unfinished: Duration::ZERO, poll: Duration::from_millis(300), ..Patience::default() };
    let _watch = Watch::start(&path, patience, move |event| {
        let _the_test_is_over = tell.send(said(&event));
    })
    .expect("it can be watched");
    assert_eq!(told.recv_timeout(LONG).as_deref(), Ok("gone"));
    fs::create_dir(folder.path().join("later")).expect("it can be made");
    rename_in(folder.path(), &path, OLD);
    assert_eq!(told.recv_timeout(LONG).as_deref(), Ok(OLD));
}

/// Whole at once, because this test believes everything at once.
fn rename_in(folder: &Path, path: &Path, text: &str) {
    let beside = folder.join("beside");
    write(&beside, text);
    rename(&beside, path);
}

#[test]
fn a_broken_edit_keeps_the_last_good_settings_and_says_why() {
    let mut desk = Desk::watching(by_events());
    let nothing = Written::default();
    let mut last_good = LastGood::default();
    let read = |desk: &Desk| EnvFile::read(desk.env()).expect("it is there");
    let taken = last_good.offer(&read(&desk), &nothing, &nothing);
    assert!(matches!(taken, Offered::Taken(_)), "{taken:?}");
    let good = last_good.settings().cloned().expect("they were taken");
    fs::write(desk.env(), b"# mine \xff\nEMBEDBAR_PRECISION=fp16\nEMBEDBAR_PIN=true\n").expect("it can be written");
    desk.wait_for(&format!("broken: {}", Breakage::NotUtf8 { line: 1 }));
    for (text, reason) in [
        ("EMBEDBAR_PRECISION='fp16\nEMBEDBAR_PIN=true\n", "never closed"),
        ("EMBEDBAR_PRECISION=int9\nEMBEDBAR_PIN=true\n", "int9"),
    ] {
        write(&desk.env(), text);
        let told = desk.told.recv_timeout(LONG).expect("it is told");
        assert!(matches!(told, FileEvent::Broken { .. } | FileEvent::Changed(_)));
        let Offered::Kept(reasons) = last_good.offer(&read(&desk), &nothing, &nothing) else { panic!("{text:?}") };
        assert!(reasons.len() == 1 && reasons[0].contains(reason), "{reasons:?}");
        assert_eq!(last_good.settings(), Some(&good));
    }
    // A comment more means the same.
    write(&desk.env(), &format!("# another\n{OLD}"));
    desk.told.recv_timeout(LONG).expect("it is told");
    assert_eq!(last_good.offer(&read(&desk), &nothing, &nothing), Offered::Same);
    write(&desk.env(), NEW);
    desk.wait_for(NEW);
    assert!(matches!(last_good.offer(&read(&desk), &nothing, &nothing), Offered::Taken(_)));
}

#[test]
fn events_that_never_stop_do_not_hold_it_up() {
    let mut desk = Desk::watching(by_events());
    let path = desk.env();
    let (stop, stopped) = channel::<()>();
    let noisy = thread::spawn(move || {
        let mut file = OpenOptions::new().write(true).truncate(true).open(&path).expect("it is there");
        file.write_all(NEW.as_bytes()).expect("it can be written");
        // The same byte again and again.
        while stopped.try_recv().is_err() {
            file.rewind().and_then(|()| file.write_all(b"#")).expect("it can be written");
            thread::sleep(Duration::from_millis(20));
        }
    });
    desk.wait_for(NEW);
    stop.send(()).expect("it is still writing");
    noisy.join().expect("it ends");
    desk.and_nothing_else();
}

#[test]
fn dropping_it_ends_its_thread_at_once_and_it_may_be_dropped_by_whom_it_tells() {
    let desk = Desk::watching(by_events());
    let started = Instant::now();
    drop(desk);
    assert!(started.elapsed() < LONG, "it does not wait for the next poll");
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder.path().join(".env"), OLD);
    let (give, given) = channel::<Watch>();
    let (tell, told) = channel();
    let watch = Watch::start(folder.path().join(".env"), by_events(), move |_| {
        drop(given.recv());
        let _the_test_is_over = tell.send(());
    });
    give.send(watch.expect("it can be watched")).expect("it waits for it");
    told.recv_timeout(LONG).expect("it did not wait for itself");
}

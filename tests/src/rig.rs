//! A desktop in a box: an X server without a screen, a session bus, a window manager, a tray, and a home, all of them
//! temporary and gone when the [`Rig`] is dropped.
//!
//! It knows nothing of Embedbar. The tray's half that speaks on the bus is Python (`tests/rig/*.py`, run by the system's
//! own interpreter, whose packages Debian ships); the programs it needs are listed in [`missing`].

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// Width and height of the screen: room for both windows side by side.
pub const SCREEN: (u32, u32) = (1600, 900);

/// The interpreter that has the system's packages; one from a version manager has not.
const PYTHON: &str = "/usr/bin/python3";

/// A program, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 7] = [
    ("Xvfb", "xvfb"),
    ("dbus-daemon", "dbus-daemon"),
    ("openbox", "openbox"),
    ("picom", "picom"),
    ("xdotool", "xdotool"),
    ("import", "imagemagick"),
    ("pgrep", "procps"),
];

const PYTHON_PACKAGES: &str = "python3-gi gir1.2-gtk-3.0 gir1.2-dbusmenu-gtk3-0.4";
const PYTHON_IMPORTS: &str = "import gi; gi.require_version('Gtk', '3.0'); gi.require_version('DbusmenuGtk3', '0.4'); \
                              from gi.repository import Gio, Gtk, DbusmenuGtk3";

/// A sentence that names what this machine lacks to run the rig; `None` where it has everything.
pub fn missing() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("the desktop in a box needs Linux".to_owned());
    }
    let absent: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if !absent.is_empty() {
        return Some(format!("not installed: {}", absent.join(" ")));
    }
    let imported = Command::new(PYTHON).args(["-c", PYTHON_IMPORTS]).stderr(Stdio::null()).status();
    match imported {
        Ok(status) if status.success() => None,
        _ => Some(format!("not installed: {PYTHON_PACKAGES}")),
    }
}

/// Whether a program can be found on `PATH`.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Asks `question` until it answers, for at most `limit`; then fails with `what` and the last thing that was seen.
pub fn wait_for<T>(what: &str, limit: Duration, mut question: impl FnMut() -> Result<T, String>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match question() {
            Ok(answer) => return Ok(answer),
            Err(seen) if Instant::now() > deadline => bail!("waited {limit:?} for {what}; seen at last: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A child process that does not outlive its owner here.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.spawn().map(Self).with_context(|| format!("`{name}` cannot be started"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its exit code once it has ended (-1 where a signal ended it).
    pub fn ended(&mut self) -> Option<i32> {
        self.0.try_wait().ok().flatten().map(|status| status.code().unwrap_or(-1))
    }

    /// Its first line of standard output, which must be piped.
    fn first_line(&mut self) -> Result<String> {
        let output = self.0.stdout.as_mut().context("standard output is not piped. This is a bug.")?;
        let mut line = String::new();
        BufReader::new(output.by_ref().take(4096)).read_line(&mut line)?;
        if line.is_empty() {
            bail!("it ended without a word");
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The running desktop.
#[derive(Debug)]
pub struct Rig {
    display: String,
    bus: String,
    // Dropped in this order: the programs before what they draw on, the folders last.
    programs: Vec<Process>,
    foundation: Vec<Process>,
    root: TempDir,
}

impl Rig {
    /// Starts a desktop of its own.
    pub fn start() -> Result<Self> {
        if let Some(sentence) = missing() {
            bail!(sentence);
        }
        let root = tempfile::Builder::new().prefix("embedbar-rig-").tempdir()?;
        for folder in ["home", "runtime", "bin", "scripts"] {
            fs::create_dir(root.path().join(folder))?;
        }
        // The specification asks for it, and the bus refuses anything else.
        fs::set_permissions(root.path().join("runtime"), fs::Permissions::from_mode(0o700))?;
        let mut rig =
            Self { display: String::new(), bus: String::new(), programs: Vec::new(), foundation: Vec::new(), root };
        rig.start_foundation()?;
        rig.start_programs()?;
        Ok(rig)
    }

    fn start_foundation(&mut self) -> Result<()> {
        let screen = format!("{}x{}x24", SCREEN.0, SCREEN.1);
        let mut server = Process::start(
            Command::new("Xvfb")
                .args(["-displayfd", "1", "-screen", "0", &screen, "-nolisten", "tcp", "+extension", "Composite"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        )?;
        let number = server.first_line().context("Xvfb did not find a free display")?;
        self.display = format!(":{number}");
        self.foundation.push(server);

        let mut bus = Process::start(
            self.command("dbus-daemon")
                .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        )?;
        self.bus = bus.first_line().context("dbus-daemon did not say its address")?;
        self.foundation.push(bus);
        Ok(())
    }

    fn start_programs(&mut self) -> Result<()> {
        let configuration = self.root.path().join("scripts/openbox.xml");
        fs::write(&configuration, include_str!("../rig/openbox.xml"))?;
        self.quiet("openbox", &["--config-file", &configuration.to_string_lossy()])?;
        self.quiet("picom", &["--backend", "xrender", "--config", "/dev/null"])?;
        self.script("watcher.py", include_str!("../rig/watcher.py"), &[])?;
        self.script("traybar.py", include_str!("../rig/traybar.py"), &[&SCREEN.0.to_string()])?;
        fs::write(self.root.path().join("scripts/traymenu.py"), include_str!("../rig/traymenu.py"))?;
        Ok(())
    }

    /// A command that runs inside: its display, bus, home and folders are the rig's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let root = self.root.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        for inherited in ["WAYLAND_DISPLAY", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XAUTHORITY"] {
            command.env_remove(inherited);
        }
        command
            .env("DISPLAY", &self.display)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus)
            .env("HOME", self.home())
            .env("XDG_RUNTIME_DIR", root.join("runtime"))
            .env("PATH", format!("{}:{path}", root.join("bin").display()))
            .env("LANG", "C.UTF-8")
            .env("GDK_BACKEND", "x11")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env("NO_AT_BRIDGE", "1")
            .stdin(Stdio::null());
        command
    }

    /// The person's home folder inside.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// A folder that comes first on `PATH` inside.
    pub fn programs_folder(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    /// Runs a program inside to its end and returns what it printed; fails where it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output =
            self.command(program).args(arguments).output().with_context(|| format!("`{program}` cannot be run"))?;
        if !output.status.success() {
            bail!("`{program} {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What `traymenu.py` prints; the exit status where it fails.
    pub(crate) fn tray_menu(&self, arguments: &[&str]) -> Result<String, String> {
        let script = self.root.path().join("scripts/traymenu.py");
        let output = self.command(PYTHON).arg(script).args(arguments).output().map_err(|error| error.to_string())?;
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Some(2) => Err("no tray item".to_owned()),
            _ => Err(String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or("nothing").to_owned()),
        }
    }

    /// Saves the whole screen, or the part `(width, height, x, y)` of it, as a PNG.
    pub fn screenshot(&self, path: &Path, part: Option<(u32, u32, u32, u32)>) -> Result<()> {
        let path = path.to_str().context("the path of a screenshot must be UTF-8")?;
        match part {
            None => self.run("import", &["-window", "root", path])?,
            Some((width, height, x, y)) => {
                let crop = format!("{width}x{height}+{x}+{y}");
                self.run("import", &["-window", "root", "-crop", &crop, "+repage", path])?
            }
        };
        Ok(())
    }

    /// The X11 window with this exact title, if it is on the screen.
    pub fn window(&self, title: &str) -> Option<String> {
        let pattern = format!("^{title}$");
        let search = ["search", "--onlyvisible", "--name", &pattern];
        for _ in 0..5 {
            let output = self.command("xdotool").args(search).output().ok()?;
            // A window that is destroyed while it looks makes it fail with an X error; without a match it fails silently.
            if output.status.success() || output.stderr.is_empty() {
                return String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned);
            }
        }
        None
    }

    /// Gives the window with this title the keyboard, once it is shown; a click in the tray does not.
    pub fn focus(&self, title: &str) -> Result<()> {
        let window = wait_for(&format!("a window titled `{title}`"), Duration::from_secs(10), || {
            self.window(title).ok_or_else(|| "no such window".to_owned())
        })?;
        self.run("xdotool", &["windowactivate", "--sync", &window])?;
        Ok(())
    }

    /// Presses a key or a combination, such as `Escape`, on the keyboard.
    pub fn press(&self, key: &str) -> Result<()> {
        self.run("xdotool", &["key", key]).map(drop)
    }

    /// Width, height and upper left corner of the window with this title, in pixels of the screen.
    pub fn geometry(&self, title: &str) -> Result<(u32, u32, u32, u32)> {
        let window = self.window(title).with_context(|| format!("the window `{title}` is not shown"))?;
        let geometry = self.run("xdotool", &["getwindowgeometry", "--shell", &window])?;
        let number = |name: &str| {
            let line = geometry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.and_then(|text| text.parse().ok()).with_context(|| format!("no {name} in `{geometry}`"))
        };
        Ok((number("WIDTH")?, number("HEIGHT")?, number("X")?, number("Y")?))
    }

    /// Drags a file from an icon on the screen to the middle of the window with this title, by the pointer, and lets go there.
    pub fn drop_on(&self, path: &Path, title: &str) -> Result<()> {
        let (width, height, x, y) = self.geometry(title)?;
        let script = self.root.path().join("scripts/drag.py");
        fs::write(&script, include_str!("../rig/drag.py"))?;
        // Beside the window, or in its corner where there is no room.
        let (left, top) = if x > 100 { (x - 90, y + 40) } else { (x + 4, y + height.saturating_sub(80)) };
        let mut icon = Process::start(
            self.command(PYTHON)
                .arg(&script)
                .arg(path)
                .args([left.to_string(), top.to_string()])
                .stdout(Stdio::piped()),
        )?;
        icon.first_line()?;
        let (to_x, to_y) = (x + width / 2, y + height / 2);
        let go = |x: u32, y: u32| self.run("xdotool", &["mousemove", &x.to_string(), &y.to_string()]).map(drop);
        go(left + 32, top + 32)?;
        self.run("xdotool", &["mousedown", "1"])?;
        // A drag begins once the pointer has moved a little, and a window hears of it once the pointer moves within it.
        for step in 1..=12 {
            let between = |from: u32, to: u32| (from * (12 - step) + to * step) / 12;
            go(between(left + 32, to_x), between(top + 32, to_y))?;
            std::thread::sleep(Duration::from_millis(60));
        }
        go(to_x + 3, to_y + 3)?;
        std::thread::sleep(Duration::from_millis(400));
        self.run("xdotool", &["mouseup", "1"])?;
        match icon.first_line()?.as_str() {
            "dropped" => Ok(()),
            said => bail!("the window `{title}` did not take the file: {said}"),
        }
    }

    fn quiet(&mut self, program: &str, arguments: &[&str]) -> Result<()> {
        let process =
            Process::start(self.command(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()))?;
        self.programs.push(process);
        Ok(())
    }

    /// Starts one of our scripts and waits for its word that it is ready.
    fn script(&mut self, name: &str, text: &str, arguments: &[&str]) -> Result<()> {
        let path = self.root.path().join("scripts").join(name);
        fs::write(&path, text)?;
        let log = fs::File::create(path.with_extension("log"))?;
        let mut process =
            Process::start(self.command(PYTHON).arg(&path).args(arguments).stdout(Stdio::piped()).stderr(log))?;
        process.first_line().map_err(|error| {
            let said = fs::read_to_string(path.with_extension("log")).unwrap_or_default();
            error.context(format!("`{name}` did not start: {said}"))
        })?;
        self.programs.push(process);
        Ok(())
    }
}

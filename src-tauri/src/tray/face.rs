//! What the tray shows for a snapshot: a pure function, without a menu in sight.

use embedbar_contract::{Failure, ModelState, Pressure, Snapshot};

/// The longest line that a menu shows without becoming unwieldy, in characters.
const LONGEST_LINE: usize = 80;

/// Which drawing the icon is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Symbol {
    Normal,
    Warn,
    Critical,
    /// The pressure is not known, or there is no application.
    Unknown,
    /// Bulk work is paused; a shortage of memory is more important and shows instead.
    Paused,
}

impl Symbol {
    /// Red, green and blue for systems whose bar may be light or dark without telling: each stands out from both.
    pub(super) fn tint(self) -> (u8, u8, u8) {
        match self {
            Self::Normal | Self::Unknown | Self::Paused => (128, 128, 128),
            Self::Warn => (200, 120, 0),
            Self::Critical => (229, 57, 53),
        }
    }
}

/// What icon and menu say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Face {
    pub(super) symbol: Symbol,
    /// Model, precision, state: the menu's first line.
    pub(super) status: String,
    pub(super) tooltip: String,
    pub(super) paused: bool,
    /// The `.env` that is followed.
    pub(super) env: Option<String>,
}

impl Face {
    /// For a running application.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let symbol = match snapshot.memory.pressure {
            Some(Pressure::Critical) => Symbol::Critical,
            Some(Pressure::Warn) => Symbol::Warn,
            _ if snapshot.paused => Symbol::Paused,
            Some(Pressure::Normal) => Symbol::Normal,
            None => Symbol::Unknown,
        };
        let line = model_line(&snapshot.model);
        let status = match &snapshot.memory.simulated {
            Some(name) => shorten(&format!("SIMULATED {name} · {line}")),
            None => shorten(&line),
        };
        let available = snapshot.memory.available_bytes.map_or_else(|| "–".to_owned(), format_memory);
        let tooltip = format!("Embedbar: {status}; {available} available");
        let env = snapshot.env.as_ref().map(|env| env.path.clone());
        Self { symbol, status, tooltip, paused: snapshot.paused, env }
    }

    /// For an application that did not start.
    pub(super) fn of_failed_start(failure: &Failure) -> Self {
        let status = shorten(&format!("Embedbar did not start: {}", failure.message));
        Self { symbol: Symbol::Unknown, tooltip: status.clone(), status, paused: false, env: None }
    }
}

fn model_line(model: &ModelState) -> String {
    match model {
        ModelState::Idle => "No model is loaded".to_owned(),
        ModelState::Loading { model } => format!("{model} · loading…"),
        ModelState::Ready { generation, .. } => format!("{} · {} · ready", generation.model, generation.precision),
        ModelState::Failed { model, failure } => format!("{model} · failed: {}", failure.message),
    }
}

/// A file's name with its folder: enough to tell one project's `.env` from another's.
pub(super) fn short_path(path: &str) -> String {
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    let (file, folder) = (parts.next().unwrap_or(path), parts.next());
    shorten(&folder.map_or_else(|| file.to_owned(), |folder| format!("{folder}/{file}")))
}

/// Cuts a text to one line that a menu can hold.
pub(super) fn shorten(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST_LINE {
        return line;
    }
    let kept: String = line.chars().take(LONGEST_LINE - 1).collect();
    format!("{}…", kept.trim_end())
}

/// Memory as the panel and Activity Monitor write it: steps of 1024, so that 16 GB of chips are 16.0 GB.
pub(super) fn format_memory(bytes: u64) -> String {
    const STEP: f64 = 1024.0;
    let (mut value, mut unit) = (bytes as f64 / STEP, "kB");
    for next in ["MB", "GB"] {
        if value >= STEP {
            (value, unit) = (value / STEP, next);
        }
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use embedbar_contract::{BackendName, FailureCode, Generation, MemoryReading, Precision, RecipeName};

    use super::*;

    fn snapshot(pressure: Option<Pressure>, paused: bool) -> Snapshot {
        Snapshot { paused, memory: MemoryReading { pressure, ..MemoryReading::default() }, ..Snapshot::default() }
    }

    #[test]
    fn the_icon_follows_the_pressure_and_a_shortage_outweighs_a_pause() {
        let symbol = |pressure, paused| Face::of(&snapshot(pressure, paused)).symbol;
        assert_eq!(symbol(Some(Pressure::Normal), false), Symbol::Normal);
        assert_eq!(symbol(Some(Pressure::Warn), false), Symbol::Warn);
        assert_eq!(symbol(Some(Pressure::Critical), true), Symbol::Critical);
        assert_eq!(symbol(Some(Pressure::Normal), true), Symbol::Paused);
        assert_eq!(symbol(None, true), Symbol::Paused);
        assert_eq!(symbol(None, false), Symbol::Unknown, "a failed probe is not calm");
    }

    /// Relative luminance as WCAG 2 defines it.
    fn luminance((red, green, blue): (u8, u8, u8)) -> f64 {
        let linear = |channel: u8| {
            let channel = f64::from(channel) / 255.0;
            if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    #[test]
    fn every_tint_stands_out_from_a_light_and_from_a_dark_bar() {
        for symbol in [Symbol::Normal, Symbol::Warn, Symbol::Critical, Symbol::Unknown, Symbol::Paused] {
            for bar in [(255, 255, 255), (30, 30, 30), (0, 0, 0)] {
                let (one, other) = (luminance(symbol.tint()), luminance(bar));
                let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                assert!(contrast >= 3.0, "{symbol:?} on {bar:?}: {contrast:.2}, and WCAG asks for 3");
            }
        }
    }

    #[test]
    fn a_simulated_machine_is_called_one_and_a_file_by_its_folder() {
        let mut simulated = snapshot(Some(Pressure::Normal), false);
        simulated.memory.simulated = Some("16gb-docker".to_owned());
        let face = Face::of(&simulated);
        assert!(face.status.starts_with("SIMULATED 16gb-docker") && face.tooltip.contains("SIMULATED"), "{face:?}");
        assert_eq!(short_path("/people/ada/src/project/.env"), "project/.env");
        assert_eq!(short_path(".env"), ".env");
    }

    #[test]
    fn the_status_names_model_precision_and_state() {
        let model = ModelState::Ready {
            generation: Generation {
                model: "all-MiniLM-L6-v2".to_owned(),
                revision: "0123456789abcdef".to_owned(),
                precision: Precision::Int8,
                recipe: RecipeName::Native,
            },
            dims: 384,
            backend: BackendName::Cpu,
            max_tokens: 256,
            worker_pid: 1,
            load_ms: 1.0,
            restarts: 0,
        };
        let mut snapshot = snapshot(None, false);
        snapshot.model = model;
        assert_eq!(Face::of(&snapshot).status, "all-MiniLM-L6-v2 · INT8 · ready");
        assert_eq!(
            Face::of(&snapshot).tooltip,
            "Embedbar: all-MiniLM-L6-v2 · INT8 · ready; – available",
            "an unknown figure is a dash"
        );
    }

    #[test]
    fn a_long_failure_becomes_one_short_line() {
        let failure = Failure::new(FailureCode::Io, format!("cannot read\n`/{}`", "ä".repeat(200)));
        let status = Face::of_failed_start(&failure).status;
        assert_eq!(status.chars().count(), LONGEST_LINE);
        assert!(status.starts_with("Embedbar did not start: cannot read `/ää"));
        assert!(status.ends_with('…'));
    }

    #[test]
    fn memory_is_written_in_steps_of_1024() {
        assert_eq!(format_memory(0), "0.0 kB");
        assert_eq!(format_memory(1024 * 1000), "1000.0 kB");
        assert_eq!(format_memory(23 << 20), "23.0 MB");
        assert_eq!(format_memory(16 << 30), "16.0 GB");
    }
}

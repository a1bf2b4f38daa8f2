//! What people and scripts see: answers on standard output, everything else on standard error.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use embedbar_contract::{Failure, Job, JobUnit, MachineOverview, MemoryReading, Pressure};

/// Writes a line to standard output. A reader that has gone away, as `head` does, ends the program quietly.
pub(crate) fn line(text: &str) {
    if writeln!(io::stdout().lock(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Writes `value` as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}

/// Writes a line of a file that changes: as it was and as it becomes.
pub(crate) fn changed_line(number: usize, before: Option<&str>, after: Option<&str>) {
    for (sign, text) in [("-", before), ("+", after)] {
        if let Some(text) = text {
            line(&format!("{number:>4} {sign} {text}"));
        }
    }
}

/// How far a job is, in a line.
pub(crate) fn progress(job: &Job) -> String {
    let counted = match (job.unit, job.total) {
        (JobUnit::Bytes, Some(total)) if total > 0 => {
            let rate =
                job.bytes_per_second.map_or_else(String::new, |rate| format!(", {}/s", bytes(Some(rate as u64))));
            let left = job.seconds_left.map_or_else(String::new, |left| format!(", {left:.0} s left"));
            format!("{} of {}{rate}{left}", bytes(Some(job.done)), bytes(Some(total)))
        }
        (JobUnit::Bytes, _) => String::new(),
        (JobUnit::Files, total) => format!("{}/{} files", job.done, count(total)),
        (JobUnit::Passages, total) => format!("{}/{} passages", job.done, count(total)),
    };
    let comma = if counted.is_empty() { "" } else { ", " };
    format!("{counted}{comma}{:.0} s: {}", job.elapsed_ms / 1e3, job.detail)
}

fn count(total: Option<u64>) -> String {
    total.map_or_else(|| "?".to_owned(), |total| total.to_string())
}

/// Writes an error with its causes, and its advice set apart.
pub(crate) fn report(error: &anyhow::Error) {
    let mut message = format!("error: {error:#}");
    if let Some(failure) = error.downcast_ref::<Failure>() {
        message = format!("error: {}", failure.message);
        if let Some(hint) = &failure.hint {
            message = format!("{message}\n\nhint: {hint}");
        }
    }
    let _ = writeln!(io::stderr().lock(), "{message}"); // nowhere is left to complain to
}

/// A line of progress on standard error that replaces itself; nothing where nobody watches.
#[derive(Default)]
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    pub(crate) fn show(&mut self, text: &str) {
        let mut error = io::stderr().lock();
        if error.is_terminal() {
            let text: String = text.chars().take(100).collect();
            let _ = write!(error, "\r\x1b[2K{text}");
            let _ = error.flush();
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// A file's size in powers of ten, as file managers write it; a dash where nothing is known.
pub(crate) fn bytes(bytes: Option<u64>) -> String {
    in_steps(bytes, 1000.0)
}

/// What a model is expected to take in memory, in words; of a stranger's only its files are known.
pub(crate) fn needed(expected: Option<u64>, files: u64) -> String {
    match expected {
        Some(bytes) => format!("about {} of memory", memory_bytes(Some(bytes))),
        None => format!("at least {} of memory, its files; its test measures it", memory_bytes(Some(files))),
    }
}

/// Memory in powers of 1024, as the panel and Activity Monitor write it; a dash where nothing is known.
pub(crate) fn memory_bytes(bytes: Option<u64>) -> String {
    in_steps(bytes, 1024.0)
}

fn in_steps(bytes: Option<u64>, step: f64) -> String {
    let Some(bytes) = bytes else { return "–".to_owned() };
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < step {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= step;
    }
    format!("{value:.1} TB")
}

pub(crate) fn pressure(pressure: Option<Pressure>) -> &'static str {
    match pressure {
        None => "–",
        Some(Pressure::Normal) => "normal",
        Some(Pressure::Warn) => "warn",
        Some(Pressure::Critical) => "critical",
    }
}

pub(crate) fn memory(reading: &MemoryReading) -> String {
    let rate = |rate: Option<f64>| {
        rate.map_or_else(|| "–".to_owned(), |rate| format!("{}/s", memory_bytes(Some(rate as u64))))
    };
    let simulated = reading.simulated.as_ref().map_or_else(String::new, |name| format!("SIMULATED  {name}\n"));
    format!(
        "{simulated}available  {} of {}\npressure   {}\nswap       {} used, {} in, {} out\nEmbedbar   {}\nworker     {} ({} resident)",
        memory_bytes(reading.available_bytes),
        memory_bytes(reading.total_bytes),
        pressure(reading.pressure),
        memory_bytes(reading.swap_used_bytes),
        rate(reading.swap_in_bytes_per_second),
        rate(reading.swap_out_bytes_per_second),
        memory_bytes(reading.own_bytes),
        memory_bytes(reading.worker_bytes),
        memory_bytes(reading.worker_resident_bytes),
    )
}

/// Who holds memory, and the room on the disk.
pub(crate) fn machine(overview: &MachineOverview) -> String {
    let disk = overview.disk.as_ref().map_or_else(
        || "–".to_owned(),
        |disk| {
            let (free, size) = (bytes(Some(disk.available_bytes)), bytes(Some(disk.total_bytes)));
            format!("{free} free of {size} at {}", disk.mounted_at)
        },
    );
    let mut lines = vec![format!("disk       {disk}"), "largest programs".to_owned()];
    match &overview.programs {
        None => lines.push("           – (they cannot be listed)".to_owned()),
        Some(programs) => lines.extend(programs.iter().map(|program| {
            let processes = match program.processes {
                1 => String::new(),
                count => format!(" ({count} processes)"),
            };
            format!("{:>10}  {}{processes}", memory_bytes(Some(program.bytes)), program.name)
        })),
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_powers_of_ten_and_the_unknown_as_a_dash() {
        let shown: Vec<String> =
            [Some(0), Some(999), Some(24_800_000), Some(16_000_000_000), None].into_iter().map(bytes).collect();
        assert_eq!(shown, ["0 B", "999 B", "24.8 MB", "16.0 GB", "–"]);
        assert_eq!(memory_bytes(Some(16 << 30)), "16.0 GB");
    }
}

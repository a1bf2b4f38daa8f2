//! Bytes as people read them.

/// Memory in powers of 1024, as the panel and Activity Monitor write it, such as `4.6 GB`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        // What would be shown as 1024.0 belongs to the next unit.
        if value < 1023.95 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn units_are_powers_of_1024() {
        let shown = [0, 1023, 1 << 20, 5_583_457_485, (1 << 30) - 1, 1 << 41].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 MB", "5.2 GB", "1.0 GB", "2.0 TB"]);
    }
}

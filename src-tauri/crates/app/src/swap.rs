//! Whether the next model may start beside the present one. Nothing here starts or ends anything.

use embedbar_contract::{MemoryReading, Pressure};
use embedbar_lifecycle::Manner;
use embedbar_planner::{Reserve, Thresholds};

/// Whether a model of this size fits beside everything that is there. Where nothing is known of memory, it does.
fn fits(size_bytes: u64, reading: &MemoryReading, thresholds: &Thresholds) -> bool {
    let MemoryReading { total_bytes: Some(total), available_bytes: Some(available), .. } = *reading else {
        return true;
    };
    available >= size_bytes + thresholds.besides_weights_bytes + Reserve::always(total, thresholds).bytes
}

/// How a model of this size takes the place of the present one. Without a word on memory both are held at once, as long as it
/// takes: a swap that nobody notices is worth more than a figure that nobody has.
pub(crate) fn manner(size_bytes: u64, reading: &MemoryReading, thresholds: &Thresholds) -> Manner {
    let MemoryReading { total_bytes: Some(total), available_bytes: Some(available), .. } = *reading else {
        return Manner::Overlap;
    };
    let reserve = Reserve::always(total, thresholds).bytes;
    let needs = size_bytes + thresholds.besides_weights_bytes;
    let calm = reading.pressure.is_none_or(|pressure| pressure == Pressure::Normal);
    let fits = fits(size_bytes, reading, thresholds);
    // A model that is small beside the machine is never worth a pause.
    let small = needs < total / 50;
    let manner = if (fits && calm) || small { Manner::Overlap } else { Manner::DrainFirst };
    tracing::info!(needs, available, reserve, ?reading.pressure, ?manner, "how the next model takes its place");
    manner
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn reading(available: u64, pressure: Pressure) -> MemoryReading {
        MemoryReading {
            total_bytes: Some(16 * GIB),
            available_bytes: Some(available),
            pressure: Some(pressure),
            ..MemoryReading::default()
        }
    }

    #[test]
    fn two_models_are_held_at_once_only_where_both_fit() {
        let (four, usual) = (4 * GIB, Thresholds::default());
        assert_eq!(manner(four, &reading(7 * GIB, Pressure::Normal), &usual), Manner::Overlap);
        assert_eq!(manner(four, &reading(5 * GIB, Pressure::Normal), &usual), Manner::DrainFirst);
        assert_eq!(manner(four, &reading(7 * GIB, Pressure::Warn), &usual), Manner::DrainFirst);
        // MiniLM on a full machine.
        assert_eq!(manner(24 << 20, &reading(GIB / 2, Pressure::Critical), &usual), Manner::Overlap);
        assert_eq!(manner(four, &MemoryReading::default(), &usual), Manner::Overlap);
        // A container of 2 GB: a quarter of it stays free, not the 1 GB of a Mac.
        let small = MemoryReading { total_bytes: Some(2 * GIB), ..reading(GIB + GIB / 2, Pressure::Normal) };
        assert_eq!(manner(GIB / 2, &small, &usual), Manner::Overlap);
    }
}

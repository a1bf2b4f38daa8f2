//! The numbers of the rules, in one place.

/// The planner's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// What is always left free.
    pub least_reserve_bytes: u64,
    /// What a process takes besides its weights where nothing else is known of its model: tokenizer, activations, the program.
    pub besides_weights_bytes: u64,
    /// The share of all memory that is always left free.
    pub reserve_share: f64,
    /// What everything else is assumed to use on a machine whose habits are not known yet.
    pub first_working_set_bytes: u64,
    /// The largest machine of which that is assumed.
    pub first_working_set_up_to_bytes: u64,
    /// What may still be loaded while the system is short of memory: enough for the bundled model.
    pub gated_load_bytes: u64,
    /// Bytes per second that are written to swap on a machine that is not swapping.
    pub swap_out_bytes_per_second: f64,
    /// Room to spare that a step up wants, at least.
    pub step_up_margin_bytes: u64,
    /// Room to spare that a step up wants, as a share of what it needs.
    pub step_up_margin_share: f64,
    /// What a step down has to give back, as a share of all memory: other vectors are not worth less.
    pub least_relief_share: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            least_reserve_bytes: 1 << 30,
            besides_weights_bytes: 256 << 20,
            reserve_share: 0.08,
            first_working_set_bytes: 10 << 30,
            first_working_set_up_to_bytes: 16 << 30,
            gated_load_bytes: 256 << 20,
            swap_out_bytes_per_second: 1_048_576.0,
            step_up_margin_bytes: 512 << 20,
            step_up_margin_share: 0.1,
            least_relief_share: 0.01,
        }
    }
}

impl Thresholds {
    /// For a simulated machine whose every byte stands for `1 / factor` bytes, so that a small model sees a large one's
    /// day.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let scaled = |bytes: u64| (bytes as f64 * factor) as u64;
        Self {
            least_reserve_bytes: scaled(self.least_reserve_bytes),
            besides_weights_bytes: scaled(self.besides_weights_bytes),
            first_working_set_bytes: scaled(self.first_working_set_bytes),
            first_working_set_up_to_bytes: scaled(self.first_working_set_up_to_bytes),
            gated_load_bytes: scaled(self.gated_load_bytes),
            swap_out_bytes_per_second: self.swap_out_bytes_per_second * factor,
            step_up_margin_bytes: scaled(self.step_up_margin_bytes),
            ..self
        }
    }

    /// Room to spare that a step up to something that needs `needs_bytes` wants.
    pub(crate) fn step_up_margin(&self, needs_bytes: u64) -> u64 {
        self.step_up_margin_bytes.max((needs_bytes as f64 * self.step_up_margin_share) as u64)
    }
}

//! What the user, or the program that asks, wants.

use embedbar_catalog::Workload;
use embedbar_contract::{BackendName, Precision};

/// For whom vectors are made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Purpose {
    /// For a program that named the model: it gets that model or none.
    #[default]
    Api,
    /// For Embedbar's own search, which keeps the generations of vectors apart.
    OwnSearch,
}

/// Who decides about the precision.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PrecisionWish {
    /// The planner.
    #[default]
    Automatic,
    /// A request, as `name:int8`: it gets that precision or none.
    Pinned(Precision),
    /// The user, in the `.env` or the tray: it is used even where it should not be, with a warning, and nothing steps
    /// by itself.
    Explicit(Precision),
}

/// What is wanted of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// For whom.
    pub purpose: Purpose,
    /// Which precision.
    pub precision: PrecisionWish,
    /// The backend that the user named; as binding as an explicit precision.
    pub backend: Option<BackendName>,
    /// The least mean cosine that the user accepts; `None` for what was asked for when a model was made.
    pub floor: Option<f64>,
    /// Whether a smaller model may stand in, for Embedbar's own search.
    pub smaller_models: bool,
    /// The host of the remote endpoint that may stand in, for Embedbar's own search.
    pub remote_host: Option<String>,
    /// The largest piece of work.
    pub workload: Workload,
}

impl Wishes {
    /// Whether the user decided something that must not be overruled silently.
    pub fn is_explicit(&self) -> bool {
        matches!(self.precision, PrecisionWish::Explicit(_)) || self.backend.is_some()
    }

    /// Whether the precision may change by itself.
    pub fn steps_by_itself(&self) -> bool {
        self.precision == PrecisionWish::Automatic
    }

    /// The only precision that is wanted.
    pub(crate) fn only_precision(&self) -> Option<Precision> {
        match self.precision {
            PrecisionWish::Automatic => None,
            PrecisionWish::Pinned(precision) | PrecisionWish::Explicit(precision) => Some(precision),
        }
    }
}

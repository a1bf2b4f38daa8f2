//! What a job is to do now, and when memory counts as short. Pure decisions.

use std::time::{Duration, Instant};

use embedbar_contract::{JobState, Pressure};

/// How long memory must have been calm before conversions go on.
const CALM: Duration = Duration::from_secs(10);

/// What a job is to do now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Wish {
    /// Work.
    #[default]
    Go,
    /// Hold what it has and wait.
    Wait(Reason),
    /// End; cannot be taken back.
    Stop,
}

/// What a job takes of the machine at present.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Load {
    /// Nothing that counts: it uses the model that is there, or the network.
    Light,
    /// Memory on top of what is in use.
    Heavy,
}

/// What holds for all jobs at once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Everywhere {
    /// The person has paused bulk work.
    pub(crate) paused: bool,
    /// [`Squeeze`] says so.
    pub(crate) memory_is_short: bool,
}

/// Why a job waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// The person has paused this job alone: it makes room for the next one.
    Held,
    /// The person has paused bulk work.
    Person,
    /// Memory is short.
    Memory,
}

impl Wish {
    /// What a job is to do that nobody has cancelled and nobody holds.
    pub(crate) fn of(load: Load, everywhere: Everywhere) -> Self {
        match load {
            _ if everywhere.paused => Self::Wait(Reason::Person),
            Load::Heavy if everywhere.memory_is_short => Self::Wait(Reason::Memory),
            Load::Heavy | Load::Light => Self::Go,
        }
    }

    /// What a person is told of a job that has not ended.
    pub(crate) fn state(self) -> JobState {
        match self {
            Self::Go => JobState::Running,
            Self::Wait(_) => JobState::Paused,
            Self::Stop => JobState::Cancelling,
        }
    }
}

/// Whether memory is short: at the first reading that says so, and until it has been calm for a while.
#[derive(Debug, Default)]
pub(crate) struct Squeeze {
    until: Option<Instant>,
}

impl Squeeze {
    /// Takes a reading into account. A pressure that is not known is no reason to wait.
    pub(crate) fn is_short(&mut self, pressure: Option<Pressure>, now: Instant) -> bool {
        if pressure.is_some_and(|pressure| pressure > Pressure::Normal) {
            self.until = Some(now + CALM);
        }
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_at_once_and_calm_only_after_a_while() {
        let (start, mut squeeze) = (Instant::now(), Squeeze::default());
        let mut at = |seconds: u64, pressure| squeeze.is_short(pressure, start + Duration::from_secs(seconds));
        assert!(!at(0, Some(Pressure::Normal)) && !at(1, None));
        assert!(at(2, Some(Pressure::Warn)) && at(4, Some(Pressure::Normal)) && at(6, Some(Pressure::Critical)));
        assert!(at(15, Some(Pressure::Normal)), "the last bad reading counts");
        assert!(!at(16, Some(Pressure::Normal)) && !at(100, None));
    }

    #[test]
    fn the_person_pauses_all_bulk_work_and_memory_only_what_takes_some() {
        let all = |paused, memory_is_short| {
            [Load::Light, Load::Heavy].map(|load| Wish::of(load, Everywhere { paused, memory_is_short }))
        };
        assert_eq!(all(false, false), [Wish::Go, Wish::Go]);
        assert_eq!(all(false, true), [Wish::Go, Wish::Wait(Reason::Memory)]);
        assert_eq!(all(true, true), [Wish::Wait(Reason::Person); 2]);
    }
}

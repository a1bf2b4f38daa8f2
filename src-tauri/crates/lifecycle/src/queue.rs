//! Two lanes of requests: queries go ahead of bulk work.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::oneshot;

use embedbar_contract::{Failure, Generation};
use embedbar_wire::worker::{Embed, Lane};

use crate::actor::{Answer, Guard};

/// A request that waits for the worker.
pub(crate) struct Pending {
    pub(crate) request: Embed,
    /// Who may answer; `None`: whoever serves.
    pub(crate) guard: Option<Guard>,
    pub(crate) arrived: Instant,
    /// When its caller no longer wants to wait; `None`: ever.
    pub(crate) deadline: Option<Instant>,
    /// How often it has been sent to a worker that then died.
    pub(crate) lost: u32,
    pub(crate) reply: oneshot::Sender<Result<Answer, Failure>>,
}

/// What waits, in the order in which it will be served.
#[derive(Default)]
pub(crate) struct Queue {
    query: VecDeque<Pending>,
    bulk: VecDeque<Pending>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.query.len() + self.bulk.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a person or a program waits.
    pub(crate) fn has_queries(&self) -> bool {
        !self.query.is_empty()
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        self.lane(pending.request.lane).push_back(pending);
    }

    /// Puts a request back that a dying worker left unanswered.
    pub(crate) fn push_front(&mut self, pending: Pending) {
        self.lane(pending.request.lane).push_front(pending);
    }

    /// The next request that this generation may answer. Those that it may not are refused.
    pub(crate) fn pop_for(&mut self, generation: &Generation) -> Option<Pending> {
        loop {
            let pending = self.pop()?;
            match pending.guard.as_ref().map_or(Ok(()), |guard| guard(generation)) {
                Ok(()) => return Some(pending),
                Err(failure) => drop(pending.reply.send(Err(failure))), // the caller may be gone
            }
        }
    }

    /// The next request whose caller still waits for it.
    pub(crate) fn pop(&mut self) -> Option<Pending> {
        loop {
            let pending = self.query.pop_front().or_else(|| self.bulk.pop_front())?;
            if !pending.reply.is_closed() {
                return Some(pending);
            }
        }
    }

    /// Forgets requests whose caller has gone away.
    pub(crate) fn drop_abandoned(&mut self) {
        self.query.retain(|pending| !pending.reply.is_closed());
        self.bulk.retain(|pending| !pending.reply.is_closed());
    }

    /// When the first of those who wait has waited long enough.
    pub(crate) fn earliest_deadline(&self) -> Option<Instant> {
        self.query.iter().chain(&self.bulk).filter_map(|pending| pending.deadline).min()
    }

    /// Removes what has waited long enough.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<Pending> {
        let expired = |pending: &Pending| pending.deadline.is_some_and(|deadline| deadline <= now);
        let mut taken = Vec::new();
        for lane in [&mut self.query, &mut self.bulk] {
            let (late, rest): (Vec<_>, Vec<_>) = std::mem::take(lane).into_iter().partition(expired);
            taken.extend(late);
            lane.extend(rest);
        }
        taken
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Pending> {
        match lane {
            Lane::Query => &mut self.query,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

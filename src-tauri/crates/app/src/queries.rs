//! The last queries and what they cost.

use std::collections::VecDeque;
use std::time::Instant;

use embedbar_contract::{Generation, QueryKind, QueryRecord, Timing};

/// Queries that are remembered.
const KEPT: usize = 20;
/// Characters of a search that are shown.
const LABEL_CHARACTERS: usize = 80;

/// What one query cost.
pub(crate) struct Cost {
    pub(crate) kind: QueryKind,
    pub(crate) label: String,
    pub(crate) tokens: usize,
    pub(crate) embedding: Timing,
    pub(crate) search_ms: Option<f64>,
    pub(crate) total_ms: f64,
    pub(crate) generation: Option<Generation>,
}

/// A ring of costs.
#[derive(Default)]
pub(crate) struct Queries {
    last_id: u64,
    ring: VecDeque<(u64, Instant, Cost)>,
}

impl Queries {
    pub(crate) fn record(&mut self, mut cost: Cost) {
        if cost.label.chars().count() > LABEL_CHARACTERS {
            cost.label = cost.label.chars().take(LABEL_CHARACTERS - 1).chain(['…']).collect();
        }
        self.last_id += 1;
        self.ring.truncate(KEPT - 1);
        self.ring.push_front((self.last_id, Instant::now(), cost));
    }

    /// Newest first.
    pub(crate) fn records(&self) -> Vec<QueryRecord> {
        self.ring
            .iter()
            .map(|(id, at, cost)| QueryRecord {
                id: *id,
                kind: cost.kind,
                label: cost.label.clone(),
                age_seconds: at.elapsed().as_secs_f64(),
                tokens: cost.tokens,
                embedding_ms: cost.embedding,
                search_ms: cost.search_ms,
                total_ms: cost.total_ms,
                generation: cost.generation.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_the_oldest_go_and_long_labels_are_cut_between_characters() {
        let mut queries = Queries::default();
        for number in 0..30 {
            queries.record(Cost {
                kind: QueryKind::Search,
                label: format!("{number} {}", "ü".repeat(100)),
                tokens: number,
                embedding: Timing::default(),
                search_ms: None,
                total_ms: 1.0,
                generation: None,
            });
        }
        let records = queries.records();
        assert_eq!((records.len(), records[0].id, records[19].tokens), (20, 30, 10));
        assert_eq!(records[0].label.chars().count(), 80);
    }
}

//! `embedbar latency`: what a search costs, the first one and the ones after it, and where the time goes.
//!
//! It asks the home's owner as any program does, one query after the other, each of other words, so that nothing is answered from
//! memory. It says what answered: a figure without that has misled people.

use embedbar_app::Access;
use embedbar_contract::{
    CleanupRequest, Commands as _, Empty, Generation, ModelState, Remote, SearchRequest, SearchResults,
};
use serde::Serialize;

use crate::output;

/// What queries are about; each gets a number, so that no two are the same.
const SUBJECTS: [&str; 6] = [
    "how the worker process is restarted after a crash",
    "which files belong to the quarterly report",
    "notes on memory pressure and swapping",
    "find latest memories",
    "where the configuration is read",
    "a recipe for bread with rye flour",
];

/// One query's time in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Cost {
    total: f64,
    /// Waiting for the model, loading included.
    waiting: f64,
    /// Tokens and forward pass.
    embedding: f64,
    search: f64,
}

impl Cost {
    fn of(results: &SearchResults) -> Self {
        let timing = results.embedding_ms;
        Self {
            total: results.total_ms,
            waiting: timing.queue,
            embedding: timing.tokenize + timing.forward,
            search: results.search_ms,
        }
    }
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Latency {
    /// Whether the first query had to load the model.
    first_was_cold: bool,
    first: Cost,
    queries: usize,
    warm_p50: Cost,
    warm_p95: Cost,
    /// What made the vectors; `None` where only words were searched.
    generation: Option<Generation>,
    /// What runs it.
    backend: Option<String>,
    passages: u64,
}

pub(crate) async fn run(application: &Remote<Access>, queries: usize, cold: bool, json: bool) -> anyhow::Result<()> {
    if cold {
        application.cleanup(CleanupRequest { dry_run: false }).await?;
    }
    let loaded = matches!(application.snapshot(Empty {}).await?.model, ModelState::Ready { .. });
    let first = ask(application, 0).await?;
    let mut warm = Vec::with_capacity(queries);
    for number in 1..=queries {
        warm.push(Cost::of(&ask(application, number).await?));
    }
    let backend = match application.snapshot(Empty {}).await?.model {
        ModelState::Ready { backend, .. } => Some(backend.to_string()),
        _ => None,
    };
    let measured = Latency {
        first_was_cold: !loaded,
        first: Cost::of(&first),
        queries,
        warm_p50: percentile(&warm, 50),
        warm_p95: percentile(&warm, 95),
        generation: first.generation,
        backend,
        passages: first.searched_chunks,
    };
    if json {
        return output::json(&measured);
    }
    for line in lines(&measured) {
        output::line(&line);
    }
    if let Some(reason) = first.degraded {
        eprintln!("warning: only words were searched: {reason}");
    }
    Ok(())
}

async fn ask(application: &Remote<Access>, number: usize) -> anyhow::Result<SearchResults> {
    let query = format!("{} {number}", SUBJECTS[number % SUBJECTS.len()]);
    Ok(application.search(SearchRequest { query, limit: 10 }).await?)
}

/// The nearest rank of each part by itself; zeros where nothing was measured.
fn percentile(costs: &[Cost], percent: usize) -> Cost {
    let of = |part: fn(&Cost) -> f64| {
        let mut sorted: Vec<f64> = costs.iter().map(part).collect();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0.0)
    };
    Cost {
        total: of(|cost| cost.total),
        waiting: of(|cost| cost.waiting),
        embedding: of(|cost| cost.embedding),
        search: of(|cost| cost.search),
    }
}

fn lines(measured: &Latency) -> Vec<String> {
    let parts = |cost: &Cost| {
        format!(
            "{:.1} ms (waiting {:.1}, embedding {:.1}, search {:.1})",
            cost.total, cost.waiting, cost.embedding, cost.search
        )
    };
    let first = if measured.first_was_cold {
        "first query, the model was not loaded"
    } else {
        "first query, the model was loaded already (`--cold` unloads it before)"
    };
    let mut lines = vec![format!("{first}: {}", parts(&measured.first))];
    if measured.queries > 0 {
        lines.push(format!("{} warm queries, median: {}", measured.queries, parts(&measured.warm_p50)));
        lines.push(format!("{} warm queries, 95 of 100 within: {}", measured.queries, parts(&measured.warm_p95)));
    }
    let answered = match (&measured.generation, &measured.backend) {
        (Some(generation), Some(backend)) => {
            format!("{} {} {}, on {backend}", generation.model, generation.precision, generation.recipe)
        }
        _ => "words alone".to_owned(),
    };
    lines.push(format!("answered by {answered}, among {} passages, on this machine", measured.passages));
    // The line that the Papr SDK's script ends with, for those who look for it.
    let shown = if measured.queries > 0 { measured.warm_p50.total } else { measured.first.total };
    lines.push(format!("search latency: {shown:.1} ms"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks_of_each_part() {
        let costs: Vec<Cost> = (1..=20)
            .map(|at| Cost { total: f64::from(at), waiting: 0.0, embedding: f64::from(21 - at), search: 1.0 })
            .collect();
        let (median, high) = (percentile(&costs, 50), percentile(&costs, 95));
        let whole = |number: f64| number as u32;
        assert_eq!((whole(median.total), whole(median.embedding), whole(median.search)), (10, 10, 1));
        assert_eq!((whole(high.total), whole(high.embedding)), (19, 19));
        assert_eq!((whole(percentile(&costs[..1], 95).total), whole(percentile(&[], 50).total)), (1, 0));
    }
}

//! A query to its hits: rank by words, rank by meaning, fuse, cut snippets.
//!
//! The words half first wants all words in one passage; where fewer passages than [`CANDIDATES`] have them, those with any of
//! the words follow, leaving out function words and words that a quarter of the index has. The meaning half takes the nearest vectors.
//! Either half may be missing; the answer says so.

use std::collections::HashMap;
use std::sync::PoisonError;

use embedbar_contract::{FoundBy, Generation, Hit, SearchRequest};
use rusqlite::Connection;

use crate::DocumentsError;
use crate::copies::{self, Runs};
use crate::function_words::is_function_word;
use crate::fuse::{Candidate, fuse};
use crate::index::Inner;
use crate::query::{Query, QueryWord};
use crate::snippet::{matched, snippet};
use crate::store::{self, Place};
use crate::vectors::{Loaded, Matrix, dot};

/// Passages that each half hands to the fusion, at least.
const CANDIDATES: usize = 100;

/// Places of one and the same text that a meaning brings along.
const COPIES: usize = 5;

/// The best candidates, which are compared with each other for near copies.
const COMPARED: usize = 60;

/// The most hits of an answer.
const MOST_HITS: usize = 200;

/// A word in more than this share of the passages says little about any of them.
const COMMON_SHARE: f64 = 0.25;

/// Below this many passages a share says nothing.
const COMMON_FROM: u64 = 200;

/// The vector of a query and what made it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryVector<'a> {
    /// Of unit length, made with the model's prompt for queries.
    pub vector: &'a [f32],
    /// Only vectors of the same generation are compared with it.
    pub generation: &'a Generation,
}

/// Whether the meaning half took part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MeaningStatus {
    /// It did. The same text in several places counts once.
    Searched {
        /// Passages that have a vector of the query's generation.
        embedded: u64,
        /// Passages there are.
        passages: u64,
    },
    /// The query had no vector.
    NoQueryVector,
    /// No passage has a vector of the query's generation.
    NoVectors {
        /// Passages there are.
        passages: u64,
    },
}

impl MeaningStatus {
    /// What is missing, as a phrase for a person; `None` if the meaning of every passage was searched.
    pub fn degraded(&self) -> Option<String> {
        match *self {
            Self::Searched { embedded, passages } if embedded < passages => {
                Some(format!("{embedded} of {passages} passages are embedded so far"))
            }
            Self::Searched { .. } | Self::NoVectors { passages: 0 } => None,
            Self::NoQueryVector => Some("the query was not embedded; only its words were searched".into()),
            Self::NoVectors { .. } => {
                Some("no passage is embedded with this model yet; only words were searched".into())
            }
        }
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Passages that were searched.
    pub searched_chunks: u64,
    /// Whether the meaning half took part.
    pub meaning: MeaningStatus,
}

/// The nearest contents, best first, and the generation's number.
struct Near {
    generation: i64,
    ranking: Vec<(f32, i64)>,
}

pub(crate) fn search(
    inner: &Inner,
    request: &SearchRequest,
    vector: Option<QueryVector<'_>>,
) -> Result<Found, DocumentsError> {
    if request.query.trim().is_empty() {
        return Err(DocumentsError::EmptyQuery);
    }
    if !(1..=MOST_HITS).contains(&request.limit) {
        return Err(DocumentsError::Limit { limit: request.limit });
    }
    let query = Query::parse(&request.query);
    inner.read(|connection| {
        let count = request.limit.max(CANDIDATES);
        let searched_chunks = store::count_chunks(connection)?;
        let telling = telling_words(connection, &query, searched_chunks)?;
        let by_words = by_words(connection, &query, &telling, count)?;
        let (near, meaning) = by_meaning(inner, connection, vector, count)?;
        let mut candidates = candidates(connection, &by_words, near.as_ref())?;
        fuse(&mut candidates);
        candidates.truncate(request.limit.max(COMPARED));
        let compared = candidates.len().min(COMPARED);
        let runs: Vec<Runs> = candidates[..compared]
            .iter()
            .map(|candidate| Ok(Runs::of(&store::chunk(connection, candidate.chunk)?.text)))
            .collect::<Result<_, DocumentsError>>()?;
        copies::settle(&mut candidates[..compared], &runs);
        candidates.truncate(request.limit);
        let mut hits = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            let cosine = cosine(connection, candidate.content, near.as_ref(), vector)?;
            hits.push(hit(connection, candidate, (&query, &telling), cosine)?);
        }
        Ok(Found { hits, searched_chunks, meaning })
    })
}

/// The words of the query that tell passages apart; all of them if none does.
fn telling_words<'query>(
    connection: &Connection,
    query: &'query Query,
    passages: u64,
) -> Result<Vec<&'query QueryWord>, DocumentsError> {
    let mut telling = Vec::new();
    for word in &query.words {
        let frequent = || -> Result<bool, DocumentsError> {
            let with = store::passages_with(connection, &word.folded)?;
            Ok(passages >= COMMON_FROM && with as f64 > passages as f64 * COMMON_SHARE)
        };
        // A last word may be the beginning of another.
        if (word.beginning || !is_function_word(&word.folded)) && !frequent()? {
            telling.push(word);
        }
    }
    Ok(if telling.is_empty() { query.words.iter().collect() } else { telling })
}

/// The passages that hold words of the query, with their ranks.
fn by_words(
    connection: &Connection,
    query: &Query,
    telling: &[&QueryWord],
    count: usize,
) -> Result<Vec<(usize, i64)>, DocumentsError> {
    let Some(all) = query.all() else { return Ok(Vec::new()) };
    let mut ranking = ranks(store::match_words(connection, &all, count)?, 0);
    if ranking.len() < count
        && let Some(any) = query.any(|word| telling.contains(&word))
    {
        let mut more = store::match_words(connection, &any, count)?;
        more.retain(|(_, chunk)| !ranking.iter().any(|(_, it)| it == chunk));
        more.truncate(count - ranking.len());
        ranking.extend(ranks(more, ranking.len()));
    }
    Ok(ranking)
}

/// Scores in order to ranks that follow on `before`. Equal scores get the same rank: what tells them apart in the store is
/// only which came first, which must not show.
fn ranks<S: PartialEq>(ordered: Vec<(S, i64)>, before: usize) -> Vec<(usize, i64)> {
    let mut ranked: Vec<(usize, i64)> = Vec::with_capacity(ordered.len());
    let mut former: Option<S> = None;
    for (position, (score, id)) in (before + 1..).zip(ordered) {
        let rank = match (&former, ranked.last()) {
            (Some(former), Some((rank, _))) if *former == score => *rank,
            _ => position,
        };
        ranked.push((rank, id));
        former = Some(score);
    }
    ranked
}

fn by_meaning(
    inner: &Inner,
    connection: &Connection,
    query: Option<QueryVector<'_>>,
    count: usize,
) -> Result<(Option<Near>, MeaningStatus), DocumentsError> {
    let Some(query) = query else { return Ok((None, MeaningStatus::NoQueryVector)) };
    let passages = store::count_contents(connection)?;
    let Some((generation, dims)) = store::generation(connection, query.generation)? else {
        return Ok((None, MeaningStatus::NoVectors { passages }));
    };
    if dims != query.vector.len() || !query.vector.iter().all(|number| number.is_finite()) {
        let what = format!("a query vector of {} numbers where {dims} finite ones are due", query.vector.len());
        return Err(DocumentsError::Vectors { what });
    }
    let present = store::present(connection, generation)?;
    bring_up_to_date(inner, connection, present, dims)?;
    let matrix = inner.matrix.read().unwrap_or_else(PoisonError::into_inner);
    // Another search may have asked for another generation meanwhile.
    let owned;
    let matrix = if matrix.loaded.generation == generation {
        &*matrix
    } else {
        owned = read_all(connection, present, dims)?;
        &owned
    };
    let embedded = (matrix.len() as u64).min(passages);
    if embedded == 0 {
        return Ok((None, MeaningStatus::NoVectors { passages }));
    }
    let near = Near { generation, ranking: matrix.near(query.vector, count) };
    Ok((Some(near), MeaningStatus::Searched { embedded, passages }))
}

/// Reads what the matrix in memory lacks: the new rows, or everything if rows were removed or the generation is another.
fn bring_up_to_date(
    inner: &Inner,
    connection: &Connection,
    present: Loaded,
    dims: usize,
) -> Result<(), DocumentsError> {
    let is_behind = |loaded: Loaded| {
        loaded.generation != present.generation || loaded.removals < present.removals || loaded.last < present.last
    };
    if !is_behind(inner.matrix.read().unwrap_or_else(PoisonError::into_inner).loaded) {
        return Ok(());
    }
    let mut matrix = inner.matrix.write().unwrap_or_else(PoisonError::into_inner);
    let loaded = matrix.loaded;
    if loaded.generation != present.generation || loaded.removals < present.removals {
        // The old one goes first: two do not have to fit.
        *matrix = Matrix::default();
        *matrix = read_all(connection, present, dims)?;
    } else if loaded.removals == present.removals && loaded.last < present.last {
        store::load(connection, &mut matrix, present)?;
    }
    Ok(())
}

fn read_all(connection: &Connection, present: Loaded, dims: usize) -> Result<Matrix, DocumentsError> {
    let mut matrix = Matrix::new(Loaded { last: 0, ..present }, dims);
    store::load(connection, &mut matrix, present)?;
    Ok(matrix)
}

/// The passages of both rankings, each with its rank in either.
fn candidates(
    connection: &Connection,
    by_words: &[(usize, i64)],
    near: Option<&Near>,
) -> Result<Vec<Candidate>, DocumentsError> {
    let mut found: HashMap<i64, Candidate> = HashMap::new();
    let by_meaning = near.map_or(Vec::new(), |near| ranks(near.ranking.clone(), 0));
    let mut meaning_ranks: HashMap<i64, usize> = HashMap::new();
    for (rank, content) in by_meaning {
        meaning_ranks.insert(content, rank);
        for place in store::places_of_content(connection, content, COPIES)? {
            found.insert(place.chunk, candidate(place, None, Some(rank)));
        }
    }
    for (rank, chunk) in by_words {
        let place = store::place_of_chunk(connection, *chunk)?;
        let meaning_rank = meaning_ranks.get(&place.content).copied();
        found.insert(*chunk, candidate(place, Some(*rank), meaning_rank));
    }
    Ok(found.into_values().collect())
}

fn candidate(place: Place, words_rank: Option<usize>, meaning_rank: Option<usize>) -> Candidate {
    let Place { chunk, content, path, ordinal, file_chunks } = place;
    Candidate { chunk, content, path, ordinal, file_chunks, words_rank, meaning_rank, score: 0.0 }
}

fn cosine(
    connection: &Connection,
    content: i64,
    near: Option<&Near>,
    query: Option<QueryVector<'_>>,
) -> Result<Option<f32>, DocumentsError> {
    let (Some(near), Some(query)) = (near, query) else { return Ok(None) };
    if let Some((cosine, _)) = near.ranking.iter().find(|(_, it)| *it == content) {
        return Ok(Some(*cosine));
    }
    Ok(store::vector(connection, near.generation, content)?.map(|vector| dot(&vector, query.vector)))
}

fn hit(
    connection: &Connection,
    candidate: &Candidate,
    (query, telling): (&Query, &[&QueryWord]),
    cosine: Option<f32>,
) -> Result<Hit, DocumentsError> {
    let chunk = store::chunk(connection, candidate.chunk)?;
    let cut = snippet(&chunk.text, telling);
    Ok(Hit {
        path: candidate.path.clone(),
        line: chunk.line_of(cut.first_match.unwrap_or(0)),
        score: candidate.score,
        cosine,
        snippet: cut.text,
        marks: cut.marks,
        matched: matched(&chunk.text, &query.words),
        found_by: match (candidate.words_rank, candidate.meaning_rank) {
            (Some(_), Some(_)) => FoundBy::Both,
            (Some(_), None) => FoundBy::Words,
            (None, _) => FoundBy::Meaning,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_share_the_better_rank() {
        assert_eq!(ranks(vec![(9, 40), (7, 30), (7, 20), (1, 10)], 0), [(1, 40), (2, 30), (2, 20), (4, 10)]);
        assert_eq!(ranks(vec![(9, 40), (9, 30)], 5), [(6, 40), (6, 30)]);
    }
}

//! The index on disk: one SQLite file in WAL mode.
//!
//! A passage's text is a *content*, known by the sha256 of what is embedded. Vectors belong to (generation, content), not to
//! passages: the same text in ten files has one vector, a file that is moved or put back keeps its vectors, and
//! several generations can stand side by side. A content leaves with the last passage that has it.
//!
//! Whatever belongs together is one transaction, so that the file is consistent after a kill at any instant: a file's
//! passages and their words, a batch of vectors. What is not here: when to do what ([`crate::refresh`]), ranking
//! ([`crate::search`]).

mod schema;

use std::path::Path;

use embedbar_contract::{Folder, Generation, SkippedFile};
use half::f16;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use sha2::{Digest, Sha256};

use crate::chunk::{Passage, embedded_text};
use crate::extract::PIPELINE;
use crate::vectors::{Loaded, Matrix};
use crate::walk::Stat;
use crate::words::joined;

pub(crate) use schema::{open, open_again};

/// A file as the index knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) root: i64,
    pub(crate) stat: Stat,
    /// `None` for a file that was left out.
    pub(crate) sha256: Option<[u8; 32]>,
    /// What made the passages, or found the reason to leave it out.
    pub(crate) pipeline: i64,
}

/// A file about to be stored.
#[derive(Debug)]
pub(crate) struct NewFile<'a> {
    pub(crate) root: i64,
    pub(crate) path: &'a str,
    pub(crate) stat: Stat,
    pub(crate) sha256: [u8; 32],
}

// ---------------------------------------------------------------- roots

/// The indexed folders and files, in the order they came.
pub(crate) fn roots(connection: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
    connection
        .prepare_cached("SELECT id, path FROM roots ORDER BY id")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

pub(crate) fn add_root(connection: &Connection, path: &str) -> rusqlite::Result<i64> {
    connection.execute("INSERT INTO roots (path) VALUES (?1)", [path])?;
    Ok(connection.last_insert_rowid())
}

/// Whether the root is still wanted.
pub(crate) fn has_root(connection: &Connection, root: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM roots WHERE id = ?1")?.exists([root])
}

/// Gives what belongs to the root at `inner` to `root`, which reaches it too.
pub(crate) fn absorb(transaction: &Transaction<'_>, root: i64, inner: &str) -> rusqlite::Result<()> {
    for table in ["files", "skipped"] {
        let sql = format!("UPDATE {table} SET root = ?1 WHERE root = (SELECT id FROM roots WHERE path = ?2)");
        transaction.execute(&sql, params![root, inner])?;
    }
    transaction.execute("DELETE FROM roots WHERE path = ?1 AND id <> ?2", params![inner, root])?;
    Ok(())
}

/// Removes a root with everything that belongs to it; false if there is none at `path`.
pub(crate) fn remove_root(transaction: &Transaction<'_>, path: &str) -> rusqlite::Result<bool> {
    let root: Option<i64> =
        transaction.query_row("SELECT id FROM roots WHERE path = ?1", [path], |row| row.get(0)).optional()?;
    let Some(root) = root else { return Ok(false) };
    let files: Vec<i64> = transaction
        .prepare("SELECT id FROM files WHERE root = ?1")?
        .query_map([root], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for file in files {
        remove_file_row(transaction, file)?;
    }
    transaction.execute("DELETE FROM skipped WHERE root = ?1", [root])?;
    transaction.execute("DELETE FROM roots WHERE id = ?1", [root])?;
    Ok(true)
}

// ---------------------------------------------------------------- files

/// The paths that are `target` or below it: a pair of bounds for `path = ?1 OR (path >= ?2 AND path < ?3)`.
fn bounds(target: &str) -> (String, String) {
    let folder = target.trim_end_matches('/');
    // `0` is the character after `/`.
    (format!("{folder}/"), format!("{folder}0"))
}

/// Calls `each` with every file at or below `target` that the index knows, read or left out.
pub(crate) fn known(
    connection: &Connection,
    target: &str,
    mut each: impl FnMut(String, Known),
) -> rusqlite::Result<()> {
    let (from, to) = bounds(target);
    for (table, sha256) in [("files", "sha256"), ("skipped", "NULL")] {
        let sql = format!(
            "SELECT path, root, size, mtime_ns, {sha256}, pipeline FROM {table}
             WHERE path = ?1 OR (path >= ?2 AND path < ?3)"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([target, &from, &to])?;
        while let Some(row) = rows.next()? {
            let stat = Stat { size: row.get::<_, i64>(2)? as u64, mtime_ns: row.get(3)? };
            each(row.get(0)?, Known { root: row.get(1)?, stat, sha256: row.get(4)?, pipeline: row.get(5)? });
        }
    }
    Ok(())
}

/// Puts a file with its passages in the place of what the index had for its path.
pub(crate) fn replace_file(
    transaction: &Transaction<'_>,
    file: &NewFile<'_>,
    passages: &[Passage],
) -> rusqlite::Result<()> {
    let old: Option<i64> = transaction
        .prepare_cached("SELECT id FROM files WHERE path = ?1")?
        .query_row([file.path], |row| row.get(0))
        .optional()?;
    transaction.prepare_cached("DELETE FROM skipped WHERE path = ?1")?.execute([file.path])?;
    // The old passages' contents are let go only after the new ones hold theirs, so that shared ones keep their vectors.
    let former = old.map_or(Ok(Vec::new()), |old| take_chunks(transaction, old))?;
    let stat = (file.stat.size as i64, file.stat.mtime_ns);
    transaction
        .prepare_cached(
            "INSERT INTO files (root, path, size, mtime_ns, sha256, pipeline, chunks) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (path) DO UPDATE SET root = ?1, size = ?3, mtime_ns = ?4, sha256 = ?5, pipeline = ?6, chunks = ?7",
        )?
        .execute(params![file.root, file.path, stat.0, stat.1, file.sha256, PIPELINE, passages.len() as i64])?;
    let id = transaction
        .prepare_cached("SELECT id FROM files WHERE path = ?1")?
        .query_row([file.path], |row| row.get::<_, i64>(0))?;
    let name = name_words(Path::new(file.path));
    for (ordinal, passage) in passages.iter().enumerate() {
        add_chunk(transaction, (id, ordinal as i64), passage, &name)?;
    }
    drop_unused(transaction, &former)
}

/// Notes the present size and time of a file whose content is as it was.
pub(crate) fn touch_file(connection: &Connection, path: &str, stat: Stat) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE files SET size = ?2, mtime_ns = ?3 WHERE path = ?1")?.execute(params![
        path,
        stat.size as i64,
        stat.mtime_ns
    ])?;
    Ok(())
}

/// Puts a reason in the place of what the index had for a path.
pub(crate) fn skip_file(
    transaction: &Transaction<'_>,
    root: i64,
    (path, stat): (&str, Stat),
    reason: &str,
) -> rusqlite::Result<()> {
    remove_file(transaction, path)?;
    transaction
        .prepare_cached(
            "INSERT INTO skipped (root, path, size, mtime_ns, pipeline, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![root, path, stat.size as i64, stat.mtime_ns, PIPELINE, reason])?;
    Ok(())
}

/// Removes whatever the index has for a path.
pub(crate) fn remove_file(transaction: &Transaction<'_>, path: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM skipped WHERE path = ?1")?.execute([path])?;
    let id: Option<i64> = transaction
        .prepare_cached("SELECT id FROM files WHERE path = ?1")?
        .query_row([path], |row| row.get(0))
        .optional()?;
    id.map_or(Ok(()), |id| remove_file_row(transaction, id))
}

fn remove_file_row(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
    let former = take_chunks(transaction, id)?;
    transaction.prepare_cached("DELETE FROM files WHERE id = ?1")?.execute([id])?;
    drop_unused(transaction, &former)
}

/// Whether a file is in the index with its text.
pub(crate) fn has_file(connection: &Connection, path: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM files WHERE path = ?1")?.exists([path])
}

// ---------------------------------------------------------------- passages

fn add_chunk(
    transaction: &Transaction<'_>,
    (file, ordinal): (i64, i64),
    passage: &Passage,
    name: &str,
) -> rusqlite::Result<()> {
    let digest: [u8; 32] = Sha256::digest(embedded_text(&passage.context, &passage.text)).into();
    transaction.prepare_cached("INSERT OR IGNORE INTO contents (digest) VALUES (?1)")?.execute([digest])?;
    let content: i64 = transaction
        .prepare_cached("SELECT id FROM contents WHERE digest = ?1")?
        .query_row([digest], |row| row.get(0))?;
    let (start, end) = (passage.range.start as i64, passage.range.end as i64);
    transaction
        .prepare_cached(
            "INSERT INTO chunks (file, ordinal, content, line, start_byte, end_byte, context, text, lines)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            file,
            ordinal,
            content,
            passage.line as i64,
            start,
            end,
            passage.context,
            passage.text,
            passage.lines.as_deref().map(lines_to_blob)
        ])?;
    let id = transaction.last_insert_rowid();
    let name = format!("{name} {}", joined(&passage.context));
    transaction.prepare_cached("INSERT INTO words (rowid, name, text) VALUES (?1, ?2, ?3)")?.execute(params![
        id,
        name,
        joined(&passage.text)
    ])?;
    Ok(())
}

/// Removes the passages of a file and returns their contents, which may be unused now.
fn take_chunks(transaction: &Transaction<'_>, file: i64) -> rusqlite::Result<Vec<i64>> {
    let former: Vec<(i64, i64)> = transaction
        .prepare_cached("SELECT id, content FROM chunks WHERE file = ?1")?
        .query_map([file], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, _) in &former {
        transaction.prepare_cached("DELETE FROM words WHERE rowid = ?1")?.execute([id])?;
    }
    transaction.prepare_cached("DELETE FROM chunks WHERE file = ?1")?.execute([file])?;
    Ok(former.into_iter().map(|(_, content)| content).collect())
}

fn drop_unused(transaction: &Transaction<'_>, contents: &[i64]) -> rusqlite::Result<()> {
    let mut removed = 0;
    for content in contents {
        if !transaction.prepare_cached("SELECT 1 FROM chunks WHERE content = ?1")?.exists([content])? {
            removed += transaction.prepare_cached("DELETE FROM vectors WHERE content = ?1")?.execute([content])?;
            transaction.prepare_cached("DELETE FROM contents WHERE id = ?1")?.execute([content])?;
        }
    }
    if removed > 0 {
        transaction.execute("UPDATE counters SET value = value + 1 WHERE name = 'removals'", [])?;
    }
    Ok(())
}

/// The words of a file's name and of the folder it is in.
fn name_words(path: &Path) -> String {
    let parts = [path.parent().and_then(Path::file_name), path.file_name()];
    let parts: Vec<_> = parts.into_iter().flatten().map(|part| joined(&part.to_string_lossy())).collect();
    parts.join(" ")
}

fn lines_to_blob(lines: &[(u32, u32)]) -> Vec<u8> {
    lines.iter().flat_map(|(byte, line)| [byte.to_le_bytes(), line.to_le_bytes()]).flatten().collect()
}

fn lines_from_blob(blob: &[u8]) -> Vec<(u32, u32)> {
    let (numbers, _) = blob.as_chunks::<4>();
    numbers.chunks_exact(2).map(|pair| (u32::from_le_bytes(pair[0]), u32::from_le_bytes(pair[1]))).collect()
}

/// A passage as it is stored.
#[derive(Debug)]
pub(crate) struct StoredChunk {
    pub(crate) text: String,
    line: usize,
    lines: Option<Vec<(u32, u32)>>,
}

impl StoredChunk {
    /// The line of the file on which the byte `at` of `text` stands.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        match &self.lines {
            None => self.line + crate::chunk::newlines(&self.text[..at]),
            Some(lines) => {
                let before = lines.partition_point(|(byte, _)| *byte as usize <= at);
                lines[..before].last().map_or(self.line, |(_, line)| *line as usize)
            }
        }
    }
}

pub(crate) fn chunk(connection: &Connection, id: i64) -> rusqlite::Result<StoredChunk> {
    connection.prepare_cached("SELECT text, line, lines FROM chunks WHERE id = ?1")?.query_row([id], |row| {
        let lines: Option<Vec<u8>> = row.get(2)?;
        Ok(StoredChunk {
            text: row.get(0)?,
            line: row.get::<_, i64>(1)? as usize,
            lines: lines.map(|blob| lines_from_blob(&blob)),
        })
    })
}

/// Where a passage stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) chunk: i64,
    pub(crate) content: i64,
    pub(crate) path: String,
    pub(crate) ordinal: i64,
    /// Passages of its file.
    pub(crate) file_chunks: i64,
}

const PLACE: &str =
    "SELECT chunks.id, content, path, ordinal, files.chunks FROM chunks JOIN files ON files.id = chunks.file";

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place {
        chunk: row.get(0)?,
        content: row.get(1)?,
        path: row.get(2)?,
        ordinal: row.get(3)?,
        file_chunks: row.get(4)?,
    })
}

pub(crate) fn place_of_chunk(connection: &Connection, chunk: i64) -> rusqlite::Result<Place> {
    connection.prepare_cached(&format!("{PLACE} WHERE chunks.id = ?1"))?.query_row([chunk], place)
}

/// Up to `most` places that have the content, by path.
pub(crate) fn places_of_content(connection: &Connection, content: i64, most: usize) -> rusqlite::Result<Vec<Place>> {
    connection
        .prepare_cached(&format!("{PLACE} WHERE content = ?1 ORDER BY path, ordinal LIMIT ?2"))?
        .query_map(params![content, most as i64], place)?
        .collect()
}

/// The passages that match a full-text expression, best first, with their bm25 (the smaller the better).
pub(crate) fn match_words(connection: &Connection, expression: &str, most: usize) -> rusqlite::Result<Vec<(f64, i64)>> {
    connection
        .prepare_cached(
            "SELECT bm25(words, 1.5, 1.0) AS score, rowid FROM words WHERE words MATCH ?1 ORDER BY score, rowid LIMIT ?2",
        )?
        .query_map(params![expression, most as i64], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// How many passages hold a word, those that left the index lately included.
pub(crate) fn passages_with(connection: &Connection, word: &str) -> rusqlite::Result<u64> {
    let count: Option<i64> = connection
        .prepare_cached("SELECT doc FROM word_counts WHERE term = ?1")?
        .query_row([word], |row| row.get(0))
        .optional()?;
    Ok(count.unwrap_or(0) as u64)
}

/// All passages there are.
pub(crate) fn count_chunks(connection: &Connection) -> rusqlite::Result<u64> {
    count(connection, "SELECT coalesce(sum(chunks), 0) FROM files")
}

/// All different passages there are.
pub(crate) fn count_contents(connection: &Connection) -> rusqlite::Result<u64> {
    count(connection, "SELECT count(*) FROM contents")
}

fn count(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))? as u64)
}

// ---------------------------------------------------------------- vectors

/// The number of a generation and the width of its vectors.
pub(crate) fn generation(connection: &Connection, generation: &Generation) -> rusqlite::Result<Option<(i64, usize)>> {
    connection
        .prepare_cached("SELECT id, dims FROM generations WHERE identity = ?1")?
        .query_row([identity(generation)], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))
        .optional()
}

/// The generation that got vectors last.
pub(crate) fn latest_generation(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT generation FROM vectors ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()
}

pub(crate) fn add_generation(
    connection: &Connection,
    generation: &Generation,
    dims: usize,
) -> rusqlite::Result<(i64, usize)> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO generations (identity, dims) VALUES (?1, ?2)")?
        .execute(params![identity(generation), dims as i64])?;
    connection
        .prepare_cached("SELECT id, dims FROM generations WHERE identity = ?1")?
        .query_row([identity(generation)], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))
}

/// A generation as one text; a field that the contract gains later makes another generation of it.
fn identity(generation: &Generation) -> String {
    serde_json::to_string(generation).expect("a generation is strings and names. This is a bug.")
}

/// How many contents have no vector of the generation (0: of none).
pub(crate) fn count_missing(connection: &Connection, generation: i64) -> rusqlite::Result<u64> {
    let sql = "SELECT (SELECT count(*) FROM contents) - (SELECT count(*) FROM vectors WHERE generation = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([generation], |row| row.get::<_, i64>(0))?.max(0) as u64)
}

/// Up to `most` contents after `after` that have no vector of the generation, each with what is to be embedded.
pub(crate) fn missing(
    connection: &Connection,
    generation: i64,
    after: i64,
    most: usize,
) -> rusqlite::Result<Vec<(i64, String)>> {
    connection
        .prepare_cached(
            "SELECT contents.id, chunks.context, chunks.text FROM contents
             JOIN chunks ON chunks.id = (SELECT min(id) FROM chunks WHERE chunks.content = contents.id)
             WHERE contents.id > ?2
               AND NOT EXISTS (SELECT 1 FROM vectors WHERE generation = ?1 AND content = contents.id)
             ORDER BY contents.id LIMIT ?3",
        )?
        .query_map(params![generation, after, most as i64], |row| {
            Ok((row.get(0)?, embedded_text(&row.get::<_, String>(1)?, &row.get::<_, String>(2)?)))
        })?
        .collect()
}

/// Stores vectors of contents that are still there; the number stored.
pub(crate) fn add_vectors(
    transaction: &Transaction<'_>,
    generation: i64,
    vectors: &[(i64, Vec<f32>)],
) -> rusqlite::Result<u64> {
    let mut added = 0;
    for (content, vector) in vectors {
        let halves: Vec<u8> = vector.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect();
        added += transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO vectors (generation, content, vector)
                 SELECT ?1, id, ?3 FROM contents WHERE id = ?2",
            )?
            .execute(params![generation, content, halves])?;
    }
    Ok(added as u64)
}

/// The vector of a content, widened.
pub(crate) fn vector(connection: &Connection, generation: i64, content: i64) -> rusqlite::Result<Option<Vec<f32>>> {
    connection
        .prepare_cached("SELECT vector FROM vectors WHERE generation = ?1 AND content = ?2")?
        .query_row(params![generation, content], |row| Ok(halves(row.get_ref(0)?.as_blob()?).map(f32::from).collect()))
        .optional()
}

fn halves(blob: &[u8]) -> impl Iterator<Item = f16> {
    blob.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes))
}

/// What a matrix of the generation would hold if it were read now.
pub(crate) fn present(connection: &Connection, generation: i64) -> rusqlite::Result<Loaded> {
    let last = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'vectors'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let removals = connection
        .prepare_cached("SELECT value FROM counters WHERE name = 'removals'")?
        .query_row([], |row| row.get(0))?;
    Ok(Loaded { generation, last: last.unwrap_or(0), removals })
}

/// Adds to `matrix` the rows of its generation that it has not read, up to `present`.
pub(crate) fn load(connection: &Connection, matrix: &mut Matrix, present: Loaded) -> rusqlite::Result<()> {
    // The `+` keeps SQLite from taking the index by generation, whose order is another.
    let mut statement = connection
        .prepare_cached("SELECT content, vector FROM vectors WHERE id > ?1 AND +generation = ?2 ORDER BY id")?;
    let mut rows = statement.query(params![matrix.loaded.last, present.generation])?;
    let mut row_halves = Vec::with_capacity(matrix.dims());
    while let Some(row) = rows.next()? {
        row_halves.clear();
        row_halves.extend(halves(row.get_ref(1)?.as_blob()?));
        // A width that is not the generation's can only be damage; the row is as good as missing.
        if row_halves.len() == matrix.dims() {
            matrix.push(row.get(0)?, &row_halves);
        }
    }
    matrix.loaded = present;
    Ok(())
}

// ---------------------------------------------------------------- summary

pub(crate) fn folders(connection: &Connection) -> rusqlite::Result<Vec<Folder>> {
    connection
        .prepare_cached(
            "SELECT path, (SELECT count(*) FROM files WHERE root = roots.id),
                    (SELECT coalesce(sum(chunks), 0) FROM files WHERE root = roots.id),
                    (SELECT count(*) FROM skipped WHERE root = roots.id)
             FROM roots ORDER BY id",
        )?
        .query_map([], |row| {
            let count = |column| row.get::<_, i64>(column).map(|count| count as u64);
            Ok(Folder { path: row.get(0)?, files: count(1)?, chunks: count(2)?, skipped: count(3)? })
        })?
        .collect()
}

/// The files that were left out, the newest first.
pub(crate) fn skipped(connection: &Connection, most: usize) -> rusqlite::Result<Vec<SkippedFile>> {
    connection
        .prepare_cached("SELECT path, reason FROM skipped ORDER BY id DESC LIMIT ?1")?
        .query_map([most as i64], |row| Ok(SkippedFile { path: row.get(0)?, reason: row.get(1)? }))?
        .collect()
}

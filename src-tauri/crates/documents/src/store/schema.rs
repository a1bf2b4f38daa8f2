//! The tables, their version, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::DocumentsError;

/// The version that this program writes and the last it reads.
const VERSION: i64 = 1;

/// Marks the file as ours: `Ebar` as a number.
const APPLICATION: i64 = 0x4562_6172;

/// `words` holds no text of its own (`content=''`): it gets the folded words, and the text is in `chunks`.
const TABLES: &str = "
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('removals', 0);

CREATE TABLE roots (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE);

CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    root INTEGER NOT NULL REFERENCES roots (id),
    path TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    pipeline INTEGER NOT NULL,
    chunks INTEGER NOT NULL
);
CREATE INDEX files_by_root ON files (root, chunks);

CREATE TABLE skipped (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    root INTEGER NOT NULL REFERENCES roots (id),
    path TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    pipeline INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX skipped_by_root ON skipped (root);

CREATE TABLE contents (id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE);

CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file INTEGER NOT NULL REFERENCES files (id),
    ordinal INTEGER NOT NULL,
    content INTEGER NOT NULL REFERENCES contents (id),
    line INTEGER NOT NULL,
    start_byte INTEGER NOT NULL,
    end_byte INTEGER NOT NULL,
    context TEXT NOT NULL,
    text TEXT NOT NULL,
    lines BLOB,
    UNIQUE (file, ordinal)
);
CREATE INDEX chunks_by_content ON chunks (content);

CREATE VIRTUAL TABLE words USING fts5 (name, text, content = '', contentless_delete = 1, tokenize = 'ascii');
CREATE VIRTUAL TABLE word_counts USING fts5vocab (words, row);

CREATE TABLE generations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    identity TEXT NOT NULL UNIQUE,
    dims INTEGER NOT NULL
);

CREATE TABLE vectors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    generation INTEGER NOT NULL REFERENCES generations (id),
    content INTEGER NOT NULL REFERENCES contents (id),
    vector BLOB NOT NULL,
    UNIQUE (generation, content)
);
CREATE INDEX vectors_by_content ON vectors (content);
";

/// Opens the index for writing and makes it if there is none.
pub(crate) fn open(file: &Path) -> Result<Connection, DocumentsError> {
    let failed = |source| DocumentsError::Open { path: file.to_owned(), source };
    let mut connection = Connection::open(file).map_err(failed)?;
    set_up(&connection).map_err(failed)?;
    // Before anything is written to a file that may not be ours.
    check(&connection, file)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
    if check(&transaction, file)? == State::New {
        transaction.execute_batch(TABLES).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(connection)
}

#[derive(PartialEq)]
enum State {
    New,
    Ours,
}

fn check(connection: &Connection, file: &Path) -> Result<State, DocumentsError> {
    let path = || file.to_owned();
    let failed = |source| DocumentsError::Open { path: path(), source };
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    match (pragma("application_id")?, pragma("user_version")?) {
        (0, 0) if is_empty(connection).map_err(failed)? => Ok(State::New),
        (APPLICATION, VERSION) => Ok(State::Ours),
        (APPLICATION, found) if found > VERSION => Err(DocumentsError::Newer { path: path(), found, known: VERSION }),
        _ => Err(DocumentsError::Foreign { path: path() }),
    }
}

/// Opens an index that [`open`] has opened before, for reading.
pub(crate) fn open_again(file: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    set_up(&connection)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "foreign_keys", true)?;
    // In WAL mode this survives a killed process whole; a power cut may cost the last transactions, never consistency.
    connection.pragma_update(None, "synchronous", "normal")
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

//! The secret that a caller must know: 32 random bytes in a file that only its owner can read.
//!
//! It is made once and kept, so that an open page survives a restart. It never appears in a log: its `Debug` is redacted.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use crate::GatewayError;

const RANDOM_BYTES: usize = 32;

/// What a caller must know.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// The token itself, 64 hexadecimal digits, for whoever may have it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `offered` is this token; takes the same time whichever digit differs.
    pub fn matches(&self, offered: &str) -> bool {
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }

    fn random() -> io::Result<Self> {
        let mut bytes = [0_u8; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
        Ok(Self(hex::encode(bytes).into()))
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let is_token = text.len() == 2 * RANDOM_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_token.then(|| Self(text.into()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(redacted)")
    }
}

/// The token in `file`, which is made where it does not exist.
///
/// The file has mode 0600 from its first byte on. One that others can read, or that holds anything but a token, is replaced
/// by a new one. Two programs that make it at once end up with the same token.
pub fn token(file: &Path) -> Result<Token, GatewayError> {
    find_or_make(file).map_err(|source| GatewayError::Token { file: file.to_owned(), source })
}

fn find_or_make(file: &Path) -> io::Result<Token> {
    let is_there = match read(file) {
        Ok(Some(token)) => return Ok(token),
        Ok(None) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let made = Token::random()?;
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut draft = tempfile::NamedTempFile::new_in(folder)?; // with mode 0600
    draft.write_all(made.expose().as_bytes())?;
    draft.write_all(b"\n")?;
    draft.as_file().sync_all()?;
    if is_there {
        tracing::warn!(file = %file.display(), "the token file was damaged or open to others; it has a new token");
        draft.persist(file).map_err(|error| error.error)?;
        return Ok(made);
    }
    match draft.persist_noclobber(file) {
        Ok(_) => Ok(made),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            read(file)?.ok_or_else(|| io::Error::other("another program made the file at the same time, and wrongly"))
        }
        Err(error) => Err(error.error),
    }
}

/// The token in the file; `None` where the file is there but cannot be trusted.
fn read(file: &Path) -> io::Result<Option<Token>> {
    let opened = File::open(file)?;
    if is_open_to_others(&opened.metadata()?) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    opened.take(2 * RANDOM_BYTES as u64 + 2).read_to_end(&mut bytes)?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(Token::parse))
}

#[cfg(unix)]
fn is_open_to_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &std::fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn home() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn the_file_is_private_and_its_token_is_used_again() {
        let home = home();
        let file = home.path().join("token");
        let made = token(&file).expect("it is made");
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read_to_string(&file).expect("text"), format!("{}\n", made.expose()));
        assert_eq!(made.expose().len(), 64);
        assert!(token(&file).expect("it is read").matches(made.expose()));
        let other = token(&home.path().join("other")).expect("it is made");
        assert!(!other.matches(made.expose()));
        assert_eq!(fs::read_dir(home.path()).expect("a folder").count(), 2, "no draft is left behind");
    }

    #[test]
    fn a_file_that_others_can_read_is_replaced() {
        let home = home();
        let file = home.path().join("token");
        let exposed = token(&file).expect("it is made");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it can be set");
        let replaced = token(&file).expect("it is made anew");
        assert!(!replaced.matches(exposed.expose()));
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let home = home();
        let file = home.path().join("token");
        let digits = "a".repeat(64);
        for damaged in ["", "abc\n", &digits[1..], &format!("{digits}0\n"), &format!("{}\n", "g".repeat(64)), "\u{e4}"]
        {
            fs::write(&file, damaged).expect("it can be written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it can be set");
            let made = token(&file).expect("it is made anew");
            assert_ne!(made.expose(), damaged.trim(), "{damaged:?}");
            assert_eq!(made.expose().len(), 64);
        }
    }

    #[test]
    fn programs_that_make_it_at_once_have_the_same_token() {
        let home = home();
        let file = home.path().join("token");
        let made: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8).map(|_| scope.spawn(|| token(&file).expect("a token"))).collect();
            racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
        });
        assert!(made.iter().all(|token| token.matches(made[0].expose())));
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let error = token(Path::new("/nowhere/at/all/token")).expect_err("there is no such folder");
        assert_eq!(error.to_string(), "cannot read or make the token file `/nowhere/at/all/token`");
    }

    #[test]
    fn a_token_is_not_shown_by_debug() {
        let made = Token::random().expect("random numbers");
        assert_eq!(format!("{made:?}"), "Token(redacted)");
    }

    #[test]
    fn only_the_whole_token_matches() {
        let made = Token::random().expect("random numbers");
        for wrong in
            ["", &made.expose()[1..], &format!("{}0", made.expose()), &made.expose().to_uppercase().replace('A', "B")]
        {
            assert!(!made.matches(wrong), "{wrong:?}");
        }
    }
}

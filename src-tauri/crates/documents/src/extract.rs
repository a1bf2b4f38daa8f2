//! The bytes of a file to text, or a phrase for why not.
//!
//! Whether a file is text is decided by its bytes, not by its name: a `README`, a man page and an extension that nobody has heard
//! of are read like any other. Names decide only what is known not to be text (so that it is not even opened) and
//! how text is cut (Markdown, HTML, plain).
//!
//! What is not here: PDF, office documents, mail and archives, which are left out with a reason.

mod decode;
mod html;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Larger files are left out: what large text files hold is data and logs, which are not searched by meaning.
pub(crate) const LARGEST: u64 = 4 * 1024 * 1024;

/// Goes up when this module or the chunker makes something else of the same bytes, so that files are read again.
pub(crate) const PIPELINE: i64 = 1;

/// Bytes that are looked at to tell text from binary.
const SAMPLE: usize = 8 * 1024;

/// How a text is to be cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Plain,
    Markdown,
}

/// A heading of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Heading {
    /// Byte of the text at which it begins.
    pub(crate) start: usize,
    /// 1 is the outermost.
    pub(crate) level: u8,
    pub(crate) text: String,
}

/// The text of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Extracted {
    pub(crate) text: String,
    pub(crate) form: Form,
    pub(crate) title: Option<String>,
    /// In the order of the text.
    pub(crate) headings: Vec<Heading>,
    /// Where lines cannot be counted in `text`: bytes of it, ascending, and the line of the file that begins there.
    pub(crate) lines: Option<Vec<(usize, usize)>>,
}

/// Why the name alone says that a file is not read, if it does.
pub(crate) fn reason_by_name(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "pdf" => "PDF is not read yet",
        "doc" | "docx" | "odt" | "pages" | "ppt" | "pptx" | "odp" | "xls" | "xlsx" | "ods" | "numbers" | "epub" => {
            "office documents are not read yet"
        }
        "gz" | "xz" | "bz2" | "zst" | "zip" | "7z" | "rar" | "tar" | "tgz" | "dmg" | "iso" | "jar" | "whl" | "deb" => {
            "compressed or an archive"
        }
        "svg" | "eps" | "ps" | "ai" => "a drawing",
        "map" => "generated",
        "png" | "jpg" | "jpeg" | "gif" | "webp" | "ico" | "icns" | "bmp" | "tif" | "tiff" | "heic" | "avif" | "psd"
        | "mp3" | "m4a" | "aac" | "ogg" | "flac" | "wav" | "mp4" | "m4v" | "mov" | "mkv" | "webm" | "avi" | "ttf"
        | "otf" | "woff" | "woff2" | "eot" | "o" | "a" | "so" | "dylib" | "dll" | "exe" | "class" | "pyc" | "pyo"
        | "rlib" | "rmeta" | "wasm" | "bin" | "dat" | "db" | "sqlite" | "sqlite3" | "gguf" | "safetensors" | "onnx"
        | "npy" | "npz" | "pt" | "pth" | "parquet" => "binary",
        _ => return None,
    })
}

/// The phrase for a file of `size` bytes that is too large.
pub(crate) fn reason_by_size(size: u64) -> Option<String> {
    let megabytes = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
    (size > LARGEST).then(|| format!("{:.1} MB, over the limit of {:.1} MB", megabytes(size), megabytes(LARGEST)))
}

/// Opens a regular file for reading. Anything else, even if it took the file's place a moment ago, is an error: a pipe would
/// block for ever, and a link would lead out of the folder.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(io::Error::other("not a regular file")) }
}

/// The whole file, or one byte more than [`LARGEST`] of it.
pub(crate) fn read(file: File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size.min(LARGEST) as usize + 1);
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text in `bytes`, or why there is none.
pub(crate) fn extract(path: &Path, bytes: &[u8]) -> Result<Extracted, String> {
    let text = decode::text(bytes, SAMPLE)?;
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
    if let Some(reason) = minified(&extension, &text) {
        return Err(reason);
    }
    let plain = |form, headings| Extracted { form, title: None, headings, lines: None, text: String::new() };
    Ok(match extension.as_str() {
        "html" | "htm" | "xhtml" => html::strip(&text),
        "md" | "markdown" | "mkd" | "mdx" => {
            Extracted { headings: headings(&text), ..plain(Form::Markdown, Vec::new()) }.with(text)
        }
        _ => plain(Form::Plain, Vec::new()).with(text),
    })
}

impl Extracted {
    fn with(self, text: String) -> Self {
        Self { text, ..self }
    }
}

/// Scripts and data that machines wrote on a few endless lines say nothing to a reader.
fn minified(extension: &str, text: &str) -> Option<String> {
    const LONG: usize = 1_000;
    if !matches!(extension, "js" | "mjs" | "cjs" | "css" | "json" | "xml") {
        return None;
    }
    let in_long_lines: usize = text.lines().map(str::len).filter(|length| *length > LONG).sum();
    (in_long_lines * 2 > text.len()).then(|| "minified or generated: most of it is on endless lines".into())
}

fn headings(text: &str) -> Vec<Heading> {
    let mut headings = Vec::new();
    let mut open: Option<(Range<usize>, HeadingLevel, String)> = None;
    for (event, range) in Parser::new_ext(text, Options::empty()).into_offset_iter() {
        match (event, &mut open) {
            (Event::Start(Tag::Heading { level, .. }), _) => open = Some((range, level, String::new())),
            (Event::Text(part) | Event::Code(part), Some((_, _, words))) => words.push_str(&part),
            (Event::End(TagEnd::Heading(_)), Some(_)) => {
                if let Some((range, level, words)) = open.take()
                    && !words.trim().is_empty()
                {
                    headings.push(Heading { start: range.start, level: level as u8, text: words.trim().to_owned() });
                }
            }
            _ => {}
        }
    }
    headings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_say_what_is_left_out() {
        assert_eq!(reason_by_name(Path::new("a/photo.JPG")), Some("binary"));
        assert_eq!(reason_by_name(Path::new("ls.1.gz")), Some("compressed or an archive"));
        assert_eq!(reason_by_name(Path::new("README")), None);
        assert_eq!(reason_by_size(13_002_342).unwrap(), "12.4 MB, over the limit of 4.0 MB");
        assert_eq!(reason_by_size(LARGEST), None);
    }

    #[test]
    fn minified_scripts_are_left_out_but_prose_on_one_line_is_not() {
        let line = "var a=1;".repeat(2000);
        assert!(extract(Path::new("a.js"), line.as_bytes()).unwrap_err().starts_with("minified"));
        assert!(extract(Path::new("a.txt"), line.as_bytes()).is_ok());
    }

    #[test]
    fn headings_are_found_in_both_styles_but_not_in_code() {
        let found = headings("Title\n=====\n\n```sh\n# comment\n```\n\n## With `code` *and* more ##\n");
        let found: Vec<_> = found.iter().map(|it| (it.level, it.text.as_str())).collect();
        assert_eq!(found, [(1, "Title"), (2, "With code and more")]);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_and_a_link_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(open(&pipe).is_err());
        std::fs::write(folder.path().join("file"), "text").unwrap();
        std::os::unix::fs::symlink(folder.path().join("file"), folder.path().join("link")).unwrap();
        assert!(open(&folder.path().join("link")).is_err());
        assert!(open(&folder.path().join("file")).is_ok());
    }
}

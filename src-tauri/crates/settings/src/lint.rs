//! What is wrong with an `.env` file, said to a person, with a mend where there is one.
//!
//! A finding has a code that stays the same between versions, the line, and a sentence that says what happens and what to do.
//! A mend is a list of edits ([`Edit`]) or a file mode; it touches nothing else. What the machine has comes in as a
//! [`World`]. What is not here: applying a mend to a file on disk, and any setting that the lint itself would need.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::document::{
    BYTE_ORDER_MARK, Binding, Breakage, Content, Document, Line, Quote, Unparsed, UnparsedReason, Value,
};
use crate::edit::{
    self, Edit, apply, comment_out, comment_out_line, fits_single_quotes, is_plain, keeps_all_but, quoted,
};
use crate::python;
use crate::secret::{is_secret, shown};
use crate::settings::{absolute, is_among, looks_like_a_path};
use crate::variables::{self, BadNumber, Kind, PROCESS_ONLY, Reader, VARIABLES, Variable};
use crate::world::World;
use crate::written::Written;

/// How often mends are applied and the result looked at again. Each round mends at least one finding.
const MOST_ROUNDS: usize = 1000;

/// Edits that are applied in one round.
const MOST_EDITS: usize = 500;

/// Findings before the one whose mend is still tried out.
const MOST_LOOKED_AT: usize = 200;

/// A name that differs in more letters is another name.
const MOST_TYPOS: usize = 2;

/// What a finding is about. The names on the wire never change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// Core ML and MLX are both on.
    CoremlAndMlx,
    /// `1` or the like where only `true` does all of it.
    TrueOnly,
    /// MLX is on and Core ML is not.
    MlxFails,
    /// A backend is on and embedding on this machine is not.
    OnDeviceOff,
    /// A model's path leads nowhere.
    ModelMissing,
    /// Core ML is on, no model is named and none is in the SDK's cache.
    ModelDownload,
    /// A path that depends on the folder of the process.
    RelativePath,
    /// `~`, which nobody expands.
    TildePath,
    /// A variable that nothing reads.
    ReadByNothing,
    /// A name that begins like one of ours and is none.
    UnknownName,
    /// A variable that only an unreleased branch reads.
    UnreleasedOnly,
    /// A non-number that ends the SDK.
    CrashesSdk,
    /// A non-number that silently becomes the default.
    NotANumber,
    /// A word that a choice does not know.
    NotAChoice,
    /// A word that is neither true nor false.
    NotAFlag,
    /// Secrets in a file that others can read.
    ReadableByOthers,
    /// A name that is set more than once.
    Duplicate,
    /// A name without `=`, which sets nothing.
    SetsNothing,
    /// A line that python-dotenv skips.
    Unparsed,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A null byte.
    NullByte,
    /// A byte order mark.
    ByteOrderMark,
    /// `export`, which some parsers refuse.
    ExportPrefix,
    /// Quotes or escapes that other parsers read differently.
    QuotedValue,
    /// `#`, which other parsers read differently.
    HashInValue,
    /// `$`, which other parsers read differently.
    DollarInValue,
    /// Blanks and signs with which a shell does something else.
    ShellSpecial,
}

impl Code {
    /// The name that is stable between versions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CoremlAndMlx => "coreml_and_mlx",
            Self::TrueOnly => "true_only",
            Self::MlxFails => "mlx_fails",
            Self::OnDeviceOff => "on_device_off",
            Self::ModelMissing => "model_missing",
            Self::ModelDownload => "model_download",
            Self::RelativePath => "relative_path",
            Self::TildePath => "tilde_path",
            Self::ReadByNothing => "read_by_nothing",
            Self::UnknownName => "unknown_name",
            Self::UnreleasedOnly => "unreleased_only",
            Self::CrashesSdk => "crashes_sdk",
            Self::NotANumber => "not_a_number",
            Self::NotAChoice => "not_a_choice",
            Self::NotAFlag => "not_a_flag",
            Self::ReadableByOthers => "readable_by_others",
            Self::Duplicate => "duplicate",
            Self::SetsNothing => "sets_nothing",
            Self::Unparsed => "unparsed",
            Self::NotUtf8 => "not_utf8",
            Self::NullByte => "null_byte",
            Self::ByteOrderMark => "byte_order_mark",
            Self::ExportPrefix => "export_prefix",
            Self::QuotedValue => "quoted_value",
            Self::HashInValue => "hash_in_value",
            Self::DollarInValue => "dollar_in_value",
            Self::ShellSpecial => "shell_special",
        }
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::CoremlAndMlx
            | Self::TrueOnly
            | Self::ModelMissing
            | Self::CrashesSdk
            | Self::ReadableByOthers
            | Self::NotUtf8
            | Self::NullByte => Severity::Error,
            Self::MlxFails
            | Self::ModelDownload
            | Self::RelativePath
            | Self::TildePath
            | Self::ReadByNothing
            | Self::UnknownName
            | Self::NotANumber
            | Self::NotAChoice
            | Self::NotAFlag
            | Self::Duplicate
            | Self::SetsNothing
            | Self::Unparsed => Severity::Warning,
            Self::OnDeviceOff
            | Self::UnreleasedOnly
            | Self::ByteOrderMark
            | Self::ExportPrefix
            | Self::QuotedValue
            | Self::HashInValue
            | Self::DollarInValue
            | Self::ShellSpecial => Severity::Note,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It works; another program may read it differently.
    Note,
    /// It does not do what it says.
    Warning,
    /// It costs gigabytes, crashes, or shows a secret.
    Error,
}

/// Something that is wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The line, from 1.
    pub line: usize,
    /// What happens and what to do, for a person.
    pub message: String,
    /// The mend, where there is one.
    pub fix: Option<Fix>,
}

/// A mend.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fix {
    /// What it does, in the imperative, for a button.
    pub title: String,
    /// What changes in the file.
    #[serde(skip)]
    pub edits: Vec<Edit>,
    /// The permission bits that the file gets.
    pub mode: Option<u32>,
    /// Whether it must be asked for by itself, because another program may then behave differently or because it is a guess.
    /// [`fix_all`] leaves it out.
    pub on_request: bool,
}

/// What [`fix_all`] has made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fixed {
    /// The mended file.
    pub document: Document,
    /// The permission bits that it should get, where they change.
    pub mode: Option<u32>,
    /// What was mended, in order.
    pub mended: Vec<Finding>,
}

/// All findings, by line.
pub fn lint(document: &Document, world: &dyn World) -> Vec<Finding> {
    let mut counting = BTreeMap::new();
    for (line, binding) in document.bindings() {
        let (counts, bindings) = counting.entry(binding.name.as_str()).or_insert((line, 0_usize));
        (*counts, *bindings) = (line, *bindings + 1);
    }
    let may_swallow = document.lines().iter().any(|line| {
        matches!(&line.content, Content::Unparsed(Unparsed { reason: UnparsedReason::UnfinishedQuote, .. }))
    });
    let mut lint =
        Lint { document, written: Written::of(document), counting, may_swallow, world, findings: Vec::new() };
    lint.whole_file();
    lint.secrets();
    lint.duplicates();
    for line in document.lines() {
        match &line.content {
            Content::Binding(binding) => lint.binding(line, binding),
            Content::Unparsed(unparsed) => lint.unparsed(line, unparsed),
            Content::Blank | Content::Comment => {}
        }
    }
    lint.backends();
    lint.core_ml_model();
    lint.findings.sort_by_key(|finding| (finding.line, std::cmp::Reverse(finding.severity), finding.code));
    lint.findings
}

/// Mends all that can be mended and is at least so bad, except for what must be asked for by itself.
pub fn fix_all(document: &Document, world: &dyn World, least: Severity) -> Fixed {
    let mut fixed = Fixed { document: document.clone(), mode: None, mended: Vec::new() };
    for _ in 0..MOST_ROUNDS {
        let mut edits: Vec<Edit> = Vec::new();
        for finding in lint(&fixed.document, world) {
            let Some(fix) = &finding.fix else { continue };
            if fix.on_request || finding.severity < least || (fix.mode.is_some() && fixed.mode.is_some()) {
                continue;
            }
            // What collides with another mend has its turn in the next round, if it is still there.
            if edits.len() >= MOST_EDITS || fix.edits.iter().any(|edit| edits.iter().any(|other| other.collides(edit)))
            {
                continue;
            }
            edits.extend(fix.edits.iter().cloned());
            fixed.mode = fixed.mode.or(fix.mode);
            fixed.mended.push(finding);
        }
        match apply(fixed.document.bytes(), &edits) {
            Ok(bytes) if !edits.is_empty() => fixed.document = Document::parse(bytes),
            _ => break,
        }
    }
    fixed
}

struct Lint<'a> {
    document: &'a Document,
    written: Written,
    /// For each name the line that counts, and how many bindings it has.
    counting: BTreeMap<&'a str, (usize, usize)>,
    /// Whether a quote that is open could swallow what an edit puts in.
    may_swallow: bool,
    world: &'a dyn World,
    findings: Vec<Finding>,
}

impl<'a> Lint<'a> {
    fn find(&mut self, code: Code, line: usize, message: impl Into<String>, fix: Option<Fix>) {
        self.findings.push(Finding { code, severity: code.severity(), line, message: message.into(), fix });
    }

    /// What counts for a name: its line and its text, unless it is made of other variables.
    fn read(&self, name: &str) -> Option<(usize, String)> {
        let entry = self.written.get(name).filter(|entry| !entry.expands)?;
        Some((entry.line?, entry.text.clone()))
    }

    fn is_true(&self, name: &str) -> bool {
        self.read(name).is_some_and(|(_, text)| python::is_true(&text))
    }

    /// The value of the binding that counts.
    fn value(&self, name: &str) -> Option<&'a Value> {
        self.document.binding(name).and_then(|(_, binding)| binding.value.as_ref())
    }

    // ------------------------------------------------------------ mends

    fn set(&self, name: &str, value: &str, title: String) -> Option<Fix> {
        let edits = edit::set(self.document, name, value).ok().filter(|edits| !edits.is_empty())?;
        Some(mend(title, edits))
    }

    fn comment_out(&self, name: &str) -> Option<Fix> {
        let edits = comment_out(self.document, name);
        (!edits.is_empty()).then(|| mend(format!("Comment out `{name}`"), edits))
    }

    /// Another way to write the same value, where python-dotenv reads it so.
    fn rewrite(&self, name: &str, span: Range<usize>, text: String, title: &str) -> Option<Fix> {
        let edits = vec![Edit::new(span, text)];
        self.only_if_unchanged(name, edits, title)
    }

    fn only_if_unchanged(&self, name: &str, edits: Vec<Edit>, title: &str) -> Option<Fix> {
        // What is not UTF-8 cannot be written again, only left alone.
        if matches!(self.document.breakage(), Some(Breakage::NotUtf8 { .. })) {
            return None;
        }
        // Looked at only where it may be otherwise, and not for ever where somebody made a file to keep us busy.
        let sure = if self.may_swallow {
            self.findings.len() < MOST_LOOKED_AT && keeps_all_but(self.document, &edits, &[])
        } else {
            true
        };
        sure.then(|| mend(format!("{title} `{name}`"), edits))
    }

    // ------------------------------------------------------------ the file as a whole

    fn whole_file(&mut self) {
        match self.document.breakage() {
            Some(breakage @ Breakage::NotUtf8 { line }) => {
                let message = format!("{}. Save it as UTF-8.", capitalised(&breakage.to_string()));
                self.find(Code::NotUtf8, line, message, None);
            }
            Some(breakage @ Breakage::NullByte { line }) => {
                let message = format!("{}. Delete that byte.", capitalised(&breakage.to_string()));
                self.find(Code::NullByte, line, message, None);
            }
            // Found again as an unparsed line.
            Some(Breakage::UnfinishedQuote { .. }) | None => {}
        }
        if self.document.has_byte_order_mark() {
            let message = "The file begins with a byte order mark. A shell and python-dotenv up to 1.2.1 take it for a part of \
                           the first name, which is then not set. Save it as UTF-8 without a byte order mark.";
            // Of several all but the first one belong to the first name.
            let mut end = self.document.text_start();
            while self.document.bytes()[end..].starts_with(BYTE_ORDER_MARK) {
                end += BYTE_ORDER_MARK.len();
            }
            let edits = vec![Edit::new(0..end, "")];
            let fix =
                keeps_all_but(self.document, &edits, &[]).then(|| mend("Remove the byte order mark".to_owned(), edits));
            self.find(Code::ByteOrderMark, 1, message, fix);
        }
    }

    fn secrets(&mut self) {
        let Some(mode) = self.world.mode().filter(|mode| mode & 0o044 != 0) else { return };
        let secrets: Vec<(usize, &str)> = self
            .document
            .bindings()
            .filter(|(_, binding)| {
                is_secret(&binding.name) && binding.value.as_ref().is_some_and(|it| !it.text.is_empty())
            })
            .map(|(line, binding)| (line, binding.name.as_str()))
            .collect();
        let Some(&(line, first)) = secrets.first() else { return };
        let more = match secrets.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let message = format!(
            "`{first}`{more} can be read by other users of this machine: the file's mode is {mode:03o}. Make it readable by you \
             alone."
        );
        let private = mode & 0o700;
        let title = format!("Set the mode of the file to {private:03o}");
        let fix = Fix { title, edits: Vec::new(), mode: Some(private), on_request: false };
        self.find(Code::ReadableByOthers, line, message, Some(fix));
    }

    fn duplicates(&mut self) {
        for line in self.document.lines() {
            let Content::Binding(binding) = &line.content else { continue };
            let name = &binding.name;
            let Some(&(winner, _)) = self.counting.get(name.as_str()) else { continue };
            if winner == line.number {
                continue;
            }
            let title = format!("Comment out `{name}` in line {}", line.number);
            let fix = mend(title, comment_out_line(self.document, line));
            let message = format!("`{name}` is set again in line {winner}, which wins: this line has no effect.");
            self.find(Code::Duplicate, line.number, message, Some(fix));
        }
    }

    // ------------------------------------------------------------ a line

    fn unparsed(&mut self, line: &Line, unparsed: &Unparsed) {
        let name = unparsed.name.as_deref().map(|name| format!(" (`{name}`)")).unwrap_or_default();
        let what = match unparsed.reason {
            UnparsedReason::NoName => "has no name that can be set",
            UnparsedReason::TextAfterName => "has no `=` behind its first word",
            UnparsedReason::UnfinishedQuote => "opens a quote that nothing closes",
            UnparsedReason::TextAfterQuote => "has something behind the closing quote",
        };
        let message = format!(
            "This line{name} {what}: python-dotenv skips it and goes on, other parsers stop. Correct it or comment it out."
        );
        let fix = mend("Comment out this line".to_owned(), comment_out_line(self.document, line));
        self.find(Code::Unparsed, line.number, message, Some(fix));
    }

    fn binding(&mut self, line: &Line, binding: &Binding) {
        self.reading(line, binding);
        let name = binding.name.as_str();
        let &(counts, bindings) = self.counting.get(name).unwrap_or(&(line.number, 1));
        if counts != line.number {
            return;
        }
        let Some(value) = &binding.value else {
            let message = format!("`{name}` has no `=`: nothing is set. Write `{name}=value` or comment it out.");
            // An earlier line with the same name would come into effect.
            let fix = if bindings == 1 { self.comment_out(name) } else { None };
            return self.find(Code::SetsNothing, line.number, message, fix);
        };
        match variables::find(name) {
            Some(variable) => self.variable(line.number, variable, value),
            None => self.unknown(line.number, binding),
        }
    }

    fn variable(&mut self, line: usize, variable: &Variable, value: &Value) {
        let name = variable.name;
        match variable.reader {
            Reader::Nothing => return self.read_by_nothing(line, name),
            Reader::DevelopmentCoreml => {
                let message = format!(
                    "`{name}` is read only by the branch `development-coreml`, which was never released: with an installed SDK it \
                     has no effect."
                );
                self.find(Code::UnreleasedOnly, line, message, None);
            }
            Reader::Main | Reader::Embedbar => {}
        }
        if value.expands {
            return;
        }
        let text = value.text.as_str();
        match variable.kind {
            Kind::Flag | Kind::SplitFlag | Kind::LiteralTrue | Kind::FlagWithoutOn | Kind::TokenizersFlag => {
                self.flag(line, variable, text);
            }
            Kind::Integer(bad) if python::integer(text).is_none() => self.not_a_number(line, variable, text, bad),
            Kind::Float(bad) if python::float(text).is_none() => self.not_a_number(line, variable, text, bad),
            Kind::Integer(_) if variable.reader == Reader::Embedbar && text.trim_start().starts_with('-') => {
                self.not_a_number(line, variable, text, BadNumber::Default);
            }
            Kind::Choice { words, otherwise, .. } if !text.is_empty() && !is_among(variable.kind, text) => {
                let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
                let happens = match (variable.reader, otherwise) {
                    (Reader::Embedbar, _) => "Embedbar goes on as if it were not written".to_owned(),
                    (_, "") => "it has no effect, or none that is meant".to_owned(),
                    _ => format!("the SDK takes `{otherwise}`"),
                };
                let message = format!("`{name}={text}` is none of {}: {happens}. Write one of them.", words.join(", "));
                let fix = match otherwise {
                    "" => self.comment_out(name),
                    word => self.set(name, word, format!("Write what holds: `{name}={word}`")),
                };
                self.find(Code::NotAChoice, line, message, fix);
            }
            Kind::Path => self.path(line, name, text),
            Kind::Text if name == "EMBEDBAR_MODEL" && looks_like_a_path(text) => self.path(line, name, text),
            Kind::Integer(_) | Kind::Float(_) | Kind::Choice { .. } | Kind::Text | Kind::Secret => {}
        }
    }

    fn flag(&mut self, line: usize, variable: &Variable, text: &str) {
        let name = variable.name;
        let only_true = match variable.kind {
            Kind::SplitFlag | Kind::LiteralTrue => python::is_true(text) && !python::is_literally_true(text),
            Kind::FlagWithoutOn => text.to_lowercase() == "on",
            _ => false,
        };
        if only_true {
            let happens = match variable.kind {
                Kind::SplitFlag => {
                    let backend = if name == "PAPR_ENABLE_COREML" { "Core ML" } else { "MLX" };
                    format!(
                        "switches {backend} on, but only `true` keeps the SDK from also loading sentence-transformers at its \
                         start: Qwen3-Embedding-4B in FP32, about 16 GB, which ends a 16 GB Mac's memory"
                    )
                }
                Kind::LiteralTrue => {
                    "does nothing, because here the SDK knows only `true`: it still loads sentence-transformers at its start, \
                     about 16 GB"
                        .to_owned()
                }
                _ => "counts as false, because this variable does not know `on`".to_owned(),
            };
            let message = format!("`{name}={text}` {happens}. Write `{name}=true`.");
            let fix = self.set(name, "true", format!("Write `{name}=true`"));
            return self.find(Code::TrueOnly, line, message, fix);
        }
        let (known, counts_as) = match variable.kind {
            Kind::TokenizersFlag => {
                let known_false = !python::is_true_for_tokenizers(text);
                (known_false || python::is_true(text), "true")
            }
            _ => (python::is_true(text) || python::is_false(text), "false"),
        };
        if known {
            return;
        }
        let counts = match variable.reader {
            Reader::Embedbar => "as if it were not written".to_owned(),
            _ => format!("as {counts_as}"),
        };
        let message =
            format!("`{name}={text}` is neither true nor false and counts {counts}. Write `true` or `false`.");
        // Blanks in quotes are the one mistake of which the meaning is certain.
        let meant = text.trim_matches(python::is_space);
        let fix = match (python::is_true(meant), python::is_false(meant)) {
            (true, _) => self.set(name, "true", format!("Write `{name}=true`")),
            (_, true) => self.set(name, "false", format!("Write `{name}=false`")),
            _ => None,
        };
        self.find(Code::NotAFlag, line, message, fix);
    }

    fn not_a_number(&mut self, line: usize, variable: &Variable, text: &str, bad: BadNumber) {
        let (name, default) = (variable.name, variable.default);
        if bad == BadNumber::Crash {
            let when = match name {
                "PAPR_SYNC_INTERVAL" => "importing the SDK ends",
                "PAPR_ONDEVICE_SIMILARITY_THRESHOLD" => "the first search of the branch `development-coreml` ends",
                _ => "the script that reads it ends",
            };
            let message =
                format!("`{name}={text}` is no number: {when} with a ValueError. Write a number such as {default}.");
            let fix = self.set(name, default, format!("Write the default: `{name}={default}`"));
            return self.find(Code::CrashesSdk, line, message, fix);
        }
        let who = if variable.reader == Reader::Embedbar { "Embedbar" } else { "the SDK" };
        let message = format!(
            "`{name}={text}` is not a number that can be used: {who} takes its default ({default}) without a word."
        );
        let fix = self.comment_out(name);
        self.find(Code::NotANumber, line, message, fix);
    }

    fn path(&mut self, line: usize, name: &str, text: &str) {
        // The hub's library expands `~` itself.
        if text.is_empty() || name == "HF_HOME" {
            return;
        }
        if text == "~" || text.starts_with("~/") {
            let expanded =
                self.world.home().map(|home| home.join(text.trim_start_matches('~').trim_start_matches('/')));
            let message = format!(
                "`{name}={text}`: nobody puts your home folder in the place of `~` here; it is a folder called `~`. Write the whole \
                 path."
            );
            let fix = expanded.as_deref().and_then(|path| self.set_path(name, path));
            return self.find(Code::TildePath, line, message, fix);
        }
        let path = absolute(self.world.folder(), text);
        let is_model = matches!(name, "PAPR_COREML_MODEL" | "EMBEDBAR_MODEL");
        if is_model && !self.world.exists(&path) {
            return self.missing_model(line, name, &path);
        }
        if Path::new(text).is_relative() && matches!(name, "PAPR_COREML_MODEL" | "PAPR_CHROMADB_PATH" | "PAPR_LOG_FILE")
        {
            let message = format!(
                "`{name}={text}` depends on the folder in which a program is started; Embedbar takes the folder of this file: \
                 `{}`. Write the whole path.",
                path.display()
            );
            let fix = self.set_path(name, &path);
            self.find(Code::RelativePath, line, message, fix);
        }
    }

    fn set_path(&self, name: &str, path: &Path) -> Option<Fix> {
        let path = path.to_str()?;
        self.set(name, path, format!("Write `{name}={path}`"))
    }

    fn missing_model(&mut self, line: usize, name: &str, path: &Path) {
        let shown = path.display();
        let cached = self.cached_package().filter(|package| self.world.exists(package));
        let message = if name == "EMBEDBAR_MODEL" {
            format!("There is no `{shown}`: Embedbar keeps the model that it has. Correct the path.")
        } else if let Some(cached) = &cached {
            format!(
                "There is no `{shown}`: the SDK takes `{}` from its cache without a word. Name the package that you want.",
                cached.display()
            )
        } else {
            let when = if self.is_true("PAPR_ENABLE_COREML") { "the SDK" } else { "with Core ML on, the SDK" };
            format!(
                "There is no `{shown}`: {when} says nothing and downloads {} from the hub instead. Correct the path; Embedbar \
                 downloads nothing for it.",
                self.download_size()
            )
        };
        let mut found: Vec<PathBuf> =
            self.world.packages().into_iter().filter(|package| self.world.exists(package)).collect();
        if let Some(cached) = cached.filter(|cached| name == "PAPR_COREML_MODEL" && !found.contains(cached)) {
            found.push(cached);
        }
        // With several it would be a guess.
        let fix = if let [only] = found.as_slice() { self.set_path(name, only) } else { None };
        self.find(Code::ModelMissing, line, message, fix);
    }

    fn download_size(&self) -> &'static str {
        if self.wants_int8() { "about 4 GB (INT8)" } else { "about 7.5 GB (FP16)" }
    }

    fn wants_int8(&self) -> bool {
        self.read("PAPR_COREML_VARIANT").is_some_and(|(_, text)| text.to_lowercase() == "int8")
    }

    /// Where the SDK keeps the package that it has downloaded.
    fn cached_package(&self) -> Option<PathBuf> {
        let cache = match self.read("XDG_CACHE_HOME") {
            Some((_, cache)) => absolute(self.world.folder(), &cache),
            None => self.world.home()?.join(".cache"),
        };
        let variant = if self.wants_int8() { "INT8" } else { "FP16" };
        Some(cache.join(format!("papr_memory/coreml/Qwen3-Embedding-4B-{variant}.mlpackage")))
    }

    fn read_by_nothing(&mut self, line: usize, name: &'static str) {
        let meant = match name {
            "HUGGINGFACE_HUB_TOKEN" => Some(("HF_TOKEN", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])),
            "PAPR_API_KEY" => Some(("PAPR_MEMORY_API_KEY", ["PAPR_MEMORY_API_KEY"; 2])),
            _ => None,
        };
        let (message, fix) = match meant {
            Some((right, taken)) if taken.iter().all(|it| self.document.binding(it).is_none()) => (
                format!(
                    "Nothing reads `{name}`, though it is documented. The name that is read is `{right}`. Rename it."
                ),
                Some(self.rename(name, right)),
            ),
            Some((right, _)) => (
                format!("Nothing reads `{name}`; `{right}` is set as well and is what counts. Comment it out."),
                self.comment_out(name),
            ),
            None => (
                format!("Nothing reads `{name}`, though it is documented: it has no effect. Comment it out."),
                self.comment_out(name),
            ),
        };
        self.find(Code::ReadByNothing, line, message, fix);
    }

    /// Every binding of the name: of two, the other one would come into effect.
    fn rename(&self, name: &str, right: &str) -> Fix {
        let bindings = self.document.bindings().filter(|(_, it)| it.name == name);
        let edits = bindings.map(|(_, it)| Edit::new(it.name_span.clone(), right)).collect();
        mend(format!("Rename `{name}` to `{right}`"), edits)
    }

    fn unknown(&mut self, line: usize, binding: &Binding) {
        let name = binding.name.as_str();
        let upper = name.to_ascii_uppercase();
        if PROCESS_ONLY.contains(&name) {
            let message = format!(
                "`{name}` has no effect in a file: Embedbar reads it from the environment in which it is started. Comment it out."
            );
            let fix = self.comment_out(name);
            return self.find(Code::UnknownName, line, message, fix);
        }
        let ours = ["PAPR_", "EMBEDBAR_"].into_iter().any(|prefix| upper.starts_with(prefix));
        // The name of another program may be near by chance.
        let most_typos = if ours { MOST_TYPOS } else { 0 };
        let nearest = VARIABLES
            .iter()
            .filter(|variable| variable.reader != Reader::Nothing)
            .map(|variable| (distance(&upper, &variable.name.to_ascii_uppercase(), most_typos), variable.name))
            .filter(|(typos, _)| *typos <= most_typos)
            .min();
        match nearest {
            Some((_, right)) => {
                let message = format!("Nothing reads `{name}`. Did you mean `{right}`?");
                let free = self.document.binding(right).is_none();
                let fix = free.then(|| only_on_request(self.rename(name, right)));
                self.find(Code::UnknownName, line, message, fix);
            }
            None if ours => {
                let message = format!("Neither the SDK nor Embedbar knows `{name}`: it has no effect on them.");
                self.find(Code::UnknownName, line, message, None);
            }
            None => {}
        }
    }

    // ------------------------------------------------------------ what other parsers read

    fn reading(&mut self, line: &Line, binding: &Binding) {
        let name = binding.name.as_str();
        let number = line.number;
        if let Some(export) = &binding.export {
            let message = format!(
                "`export {name}`: python-dotenv and a shell read it, `docker --env-file` and systemd refuse the line. Without it \
                 `source .env` does not pass the variable on, unless after `set -a`."
            );
            let title = format!("Remove `export` before `{name}`");
            let fix = only_on_request(mend(title, vec![Edit::new(export.clone(), "")]));
            self.find(Code::ExportPrefix, number, message, Some(fix));
        }
        if let Some(comment) = &binding.comment {
            self.inline_comment(line, binding, comment.clone());
        }
        let Some(value) = &binding.value else { return };
        self.blanks_around_equals(number, binding, value);
        match value.quote {
            Quote::None => self.unquoted(number, name, value),
            Quote::Single | Quote::Double => self.in_quotes(number, name, value),
        }
        self.dollar(number, name, value);
    }

    fn inline_comment(&mut self, line: &Line, binding: &Binding, comment: Range<usize>) {
        let name = &binding.name;
        let older = match &binding.value {
            Some(value) if value.text.is_empty() && value.quote == Quote::None => {
                ", and so do python-dotenv 1.2.1 and older"
            }
            _ => "",
        };
        let message = format!(
            "The comment behind `{name}` is one for python-dotenv and a shell; `docker --env-file` takes it for a part of the \
             value{older}. Put it in a line of its own."
        );
        let text = self.document.text(comment.clone());
        let start = line.span.start.max(self.document.text_start());
        let above = format!("{}{}", text.trim_start_matches(python::is_space), self.document.newline().text());
        let edits = vec![Edit::new(start..start, above), Edit::new(comment, "")];
        let fix = self.only_if_unchanged(name, edits, "Move the comment above");
        self.find(Code::HashInValue, line.number, message, fix);
    }

    fn blanks_around_equals(&mut self, line: usize, binding: &Binding, value: &Value) {
        let between = binding.name_span.end..value.span.start;
        if between.len() == 1 {
            return;
        }
        let name = &binding.name;
        let message = format!(
            "There are blanks around the `=` behind `{name}`: python-dotenv leaves them out, a shell takes `{name}` for a command, \
             and `docker --env-file` refuses the line. Write `{name}=value`."
        );
        let fix = self.rewrite(name, between, "=".to_owned(), "Remove the blanks around the `=` behind");
        self.find(Code::ShellSpecial, line, message, fix);
    }

    fn unquoted(&mut self, line: usize, name: &str, value: &Value) {
        let text = value.text.as_str();
        let quotes = |lint: &Self| {
            let quoted = quoted(text, Quote::Single).ok().filter(|_| fits_single_quotes(text))?;
            lint.rewrite(name, value.span.clone(), quoted, "Put quotes around the value of")
        };
        let shown = shown(name, text);
        if text.contains('#') {
            let message = format!(
                "`{name}={shown}` has a `#` without quotes: python-dotenv and a shell keep it, other parsers take it for the \
                 beginning of a comment. Put the value in quotes."
            );
            let fix = quotes(self);
            self.find(Code::HashInValue, line, message, fix);
        }
        let special = |character: char| python::is_space(character) || ";&|<>()`\\'\"!".contains(character);
        if text.contains(special) || text.starts_with('~') {
            let message = format!(
                "`{name}={shown}` has signs that a shell does not take for themselves without quotes; python-dotenv does. Put the \
                 value in quotes."
            );
            let fix = quotes(self);
            self.find(Code::ShellSpecial, line, message, fix);
        }
    }

    fn in_quotes(&mut self, line: usize, name: &str, value: &Value) {
        let text = value.text.as_str();
        if is_plain(text) {
            let message = format!(
                "The quotes around the value of `{name}` are not needed; `docker --env-file` takes them for a part of it. Leave \
                 them out."
            );
            // A `#` that follows at once would belong to the value.
            let hash_follows = self.document.bytes().get(value.span.end) == Some(&b'#');
            let plain = if hash_follows { format!("{text} ") } else { text.to_owned() };
            let fix = self.rewrite(name, value.span.clone(), plain, "Remove the quotes around the value of");
            return self.find(Code::QuotedValue, line, message, fix);
        }
        let inside = value.span.start + 1..value.span.end - 1;
        let raw = &self.document.bytes()[inside];
        let double = value.quote == Quote::Double;
        let escapes = raw.contains(&b'\\') && (double || !fits_single_quotes(text));
        let lines = raw.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        let command = double && raw.contains(&b'`');
        let single = || {
            let quoted = quoted(text, Quote::Single).ok().filter(|_| fits_single_quotes(text))?;
            self.rewrite(name, value.span.clone(), quoted, "Put single quotes around the value of")
        };
        if command {
            let message = format!(
                "`{name}` has a backtick in double quotes: a shell runs what stands there as a command, python-dotenv does not. Use \
                 single quotes."
            );
            let fix = single();
            self.find(Code::ShellSpecial, line, message, fix);
        } else if escapes {
            let message = format!(
                "`{name}` has a backslash in quotes: python-dotenv makes one character of it and the next one, other parsers do \
                 not, or not of the same ones. Avoid it where you can."
            );
            let fix = single();
            self.find(Code::QuotedValue, line, message, fix);
        } else if lines {
            let message = format!(
                "The value of `{name}` goes over several lines; `docker --env-file` reads each as a line of its own."
            );
            self.find(Code::QuotedValue, line, message, None);
        }
    }

    fn dollar(&mut self, line: usize, name: &str, value: &Value) {
        if value.expands {
            let message = format!(
                "`{name}` is made of other variables: python-dotenv puts them in, in any quotes, `docker --env-file` and Embedbar \
                 do not. Write the value itself."
            );
            return self.find(Code::DollarInValue, line, message, None);
        }
        if !value.text.contains('$') || value.quote == Quote::Single {
            return;
        }
        let message = format!(
            "`{name}` has a `$` that python-dotenv keeps and that a shell and docker compose take for a variable. Use single quotes."
        );
        let quoted = quoted(&value.text, Quote::Single).ok().filter(|_| fits_single_quotes(&value.text));
        let fix = quoted
            .and_then(|quoted| self.rewrite(name, value.span.clone(), quoted, "Put single quotes around the value of"));
        self.find(Code::DollarInValue, line, message, fix);
    }

    // ------------------------------------------------------------ several lines together

    fn backends(&mut self) {
        let (core_ml, mlx) = (self.is_true("PAPR_ENABLE_COREML"), self.is_true("PAPR_ENABLE_MLX"));
        let line = |name: &str| self.read(name).map_or(1, |(line, _)| line);
        let (core_ml_line, mlx_line) = (line("PAPR_ENABLE_COREML"), line("PAPR_ENABLE_MLX"));
        if core_ml && mlx {
            let message = "Core ML (line LINE) and MLX are both on: Core ML wins. If it fails, for example because the package is \
                           missing, the SDK tries MLX, which has never worked, and ends by loading sentence-transformers, about 16 \
                           GB. Comment MLX out."
                .replace("LINE", &core_ml_line.to_string());
            let fix = self.comment_out("PAPR_ENABLE_MLX");
            self.find(Code::CoremlAndMlx, mlx_line, message, fix);
        } else if mlx {
            let message = "With MLX the SDK fails at every text, loads sentence-transformers instead, about 16 GB, and returns no \
                           vector. Embedbar reads the MLX checkpoint itself; for the SDK use Core ML.";
            self.find(Code::MlxFails, mlx_line, message, None);
        }
        if (core_ml || mlx) && !self.is_true("PAPR_ONDEVICE_PROCESSING") {
            let written = self.written.get("PAPR_ONDEVICE_PROCESSING");
            if written.is_some_and(|entry| entry.expands) {
                return;
            }
            let (name, line) = if core_ml { ("Core ML", core_ml_line) } else { ("MLX", mlx_line) };
            let embedbar = if written.is_some() { ", and Embedbar loads no model for it" } else { "" };
            let message = format!(
                "{name} is on, but `PAPR_ONDEVICE_PROCESSING` is not: the SDK sends each query to its server{embedbar}. Set \
                 `PAPR_ONDEVICE_PROCESSING=true`."
            );
            let variable = "PAPR_ONDEVICE_PROCESSING";
            let fix = self.set(variable, "true", format!("Set `{variable}=true`")).map(only_on_request);
            self.find(Code::OnDeviceOff, line, message, fix);
        }
    }

    fn core_ml_model(&mut self) {
        let named = self.value("PAPR_COREML_MODEL").is_some_and(|value| !value.text.is_empty());
        let Some((line, _)) = self.read("PAPR_ENABLE_COREML").filter(|(_, text)| python::is_true(text)) else { return };
        let Some(cached) = self.cached_package() else { return };
        if named || self.world.exists(&cached) {
            return;
        }
        let message = format!(
            "Core ML is on and no package is named or in the SDK's cache (`{}`): its first start downloads {}. Set \
             `PAPR_COREML_MODEL`.",
            cached.display(),
            self.download_size()
        );
        let found: Vec<PathBuf> =
            self.world.packages().into_iter().filter(|package| self.world.exists(package)).collect();
        let fix = if let [only] = found.as_slice() { self.set_path("PAPR_COREML_MODEL", only) } else { None };
        self.find(Code::ModelDownload, line, message, fix);
    }
}

fn mend(title: String, edits: Vec<Edit>) -> Fix {
    Fix { title, edits, mode: None, on_request: false }
}

fn only_on_request(fix: Fix) -> Fix {
    Fix { on_request: true, ..fix }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// How many letters must be changed, added or removed (Levenshtein); a large number where it is more than `most`.
fn distance(one: &str, other: &str, most: usize) -> usize {
    if most == 0 {
        return if one == other { 0 } else { usize::MAX };
    }
    let other: Vec<char> = other.chars().collect();
    if one.chars().count().abs_diff(other.len()) > most {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, character) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, against) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *against);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

//! What a followed `.env` would have to say so that a model which was chosen elsewhere stays the active one, or so that the Papr
//! SDK uses it.
//!
//! It makes the new text and the lines that a person sees before it is written; writing is for [`crate::following`].

use embedbar_contract::{EnvChange, EnvProposal, Precision};
use embedbar_planner::PrecisionWish;
use embedbar_settings::{
    BackendWish, Document, EnvFile, ModelWish, Settings, SettingsError, Wish, apply, changed_lines, set,
};

use crate::governing::Wanted;

/// A model that was chosen, as a file would name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Choice {
    /// The installed model's id.
    pub(crate) id: String,
    /// What the file would call it.
    model: String,
    precision: Option<Precision>,
}

/// The text of a file that says what was chosen.
pub(crate) struct Kept {
    /// All its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The variables that are set.
    pub(crate) variables: Vec<&'static str>,
    changes: Vec<EnvChange>,
}

impl Choice {
    /// The installed model `id`, chosen in exactly this way.
    pub(crate) fn of(id: &str, wanted: &Wanted) -> Self {
        let precision = match wanted.wishes.precision {
            PrecisionWish::Explicit(precision) => Some(precision),
            _ => None,
        };
        Self { id: id.to_owned(), model: wanted.model.clone(), precision }
    }

    /// What a person is shown; `None` where the file means this choice already.
    pub(crate) fn proposal(&self, file: &EnvFile) -> Option<EnvProposal> {
        let (changes, refused) = match self.kept(file) {
            Ok(kept) if kept.changes.is_empty() => return None,
            Ok(kept) => (kept.changes, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Some(EnvProposal { model: self.id.clone(), changes, refused })
    }

    /// The file with the choice in it, or a sentence why that cannot be.
    pub(crate) fn kept(&self, file: &EnvFile) -> Result<Kept, String> {
        let settings = Settings::of_file(file);
        let elsewhere = matches!(settings.backend.value, BackendWish::Remote(_) | BackendWish::SdkServer);
        let mut lines = vec![("EMBEDBAR_MODEL", self.model.as_str())];
        lines.extend(self.precision.map(|precision| ("EMBEDBAR_PRECISION", precision.word())));
        lines.extend(elsewhere.then_some(("EMBEDBAR_BACKEND", "auto")));
        let kept = Kept::of(file, &lines).map_err(|error| error.to_string())?;
        if !self.is_meant_by(&Settings::of_document(&Document::parse(kept.bytes.clone()), file.folder())) {
            return Err(format!(
                "`EMBEDBAR_MODEL={}` would not make it the active model: other variables in the file say otherwise",
                self.model
            ));
        }
        Ok(kept)
    }

    /// Whether the settings ask for this model in this precision and have it run here.
    fn is_meant_by(&self, settings: &Settings) -> bool {
        let named = matches!(&settings.model.value, Some(ModelWish::Id(id)) if *id == self.model);
        let precise = self.precision.is_none_or(|precision| settings.precision.value == Wish::Explicit(precision));
        let here = !matches!(settings.backend.value, BackendWish::Remote(_) | BackendWish::SdkServer);
        named && precise && here
    }
}

impl Kept {
    /// The file with these lines in it.
    pub(crate) fn of(file: &EnvFile, lines: &[(&'static str, &str)]) -> Result<Self, SettingsError> {
        let before = file.document();
        let mut after = before.clone();
        for (name, value) in lines {
            let bytes = set(&after, name, value).and_then(|edits| apply(after.bytes(), &edits))?;
            after = Document::parse(bytes);
        }
        let changes = changed_lines(before, &after).into_iter();
        let changes = changes.map(|line| EnvChange { number: line.number, before: line.before, after: line.after });
        let variables = lines.iter().map(|(name, _)| *name).collect();
        Ok(Self { bytes: after.bytes().to_vec(), variables, changes: changes.collect() })
    }

    /// The lines that would change.
    pub(crate) fn changes(&self) -> &[EnvChange] {
        &self.changes
    }

    /// Whether these are the lines that a person said yes to.
    pub(crate) fn is(&self, seen: &[EnvChange]) -> bool {
        self.changes == seen
    }
}

//! A model's self-test on this machine, and its card.
//!
//! It asks of a model what every user silently relies on: vectors that are finite, of length 1 and as wide as declared; the same
//! alone as in company and the same twice; text that counts up to the declared end and not beyond it; the pooling and the prompts
//! that its authors declare; and, where the catalogue has vectors by another program, those. What it costs on this machine is
//! measured on the way. A model too slow for a check has the check shortened, never left out in silence.
//!
//! What is not here: whether a model is good at finding things.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use embedbar_contract::{Card, CardCheck, PromptKind, RecipeName};
use embedbar_engine::{Engine, EngineError, How, Pooling};

use crate::{CertifyError, probes};

/// Of vectors of length 1: how far a number may move with the company of its text.
const ALONE: f64 = 1e-4;

/// How far a vector's length may be from 1.
const LENGTH: f64 = 1e-3;

/// How near to 1 a cosine is that means the same vector.
const SAME: f64 = 1e-6;

/// The least cosine with a vector by another program, for a model in 8 bits or more, and for one in fewer.
const AGREES: f64 = 0.99;
const AGREES_IN_FEW_BITS: f64 = 0.95;

/// Texts that are embedded together.
const COMPANY: usize = 8;

/// Short words, of which any tokenizer tells some apart.
const WORDS: [&str; 6] = ["paper", "water", "the", "house", "a", "7"];

/// What the check of the window may take.
const WINDOW_TIME: Duration = Duration::from_secs(20);

/// The longest text of the check of the window, in tokens.
const LONGEST: usize = 1024;

/// What the catalogue says of a model.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// Width of its vectors.
    pub dims: Option<usize>,
    /// How hidden states become a vector.
    pub pooling: Option<Pooling>,
    /// What goes in front of a query and of a document.
    pub prompts: Option<(String, String)>,
    /// Vectors that another program has made.
    pub references: Vec<Reference>,
}

/// The beginning of a vector of length 1 that another program has made of a text without a prompt.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The text.
    pub text: String,
    /// The vector's first numbers.
    pub begins: Vec<f32>,
}

/// Where a trial is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// The model is opened.
    Opening,
    /// Texts are embedded.
    Embedding,
    /// Long texts are embedded.
    Window,
}

impl Stage {
    /// As a person reads it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Opening => "opening the model",
            Self::Embedding => "testing its vectors",
            Self::Window => "finding where text stops to count",
        }
    }
}

/// Tests the model at `path`. A model that fails has a card that says so; an error is only that the test was cancelled
/// through `watch`, which is called before each forward pass.
pub fn trial(
    id: &str,
    path: &Path,
    how: &How,
    declared: &Declared,
    watch: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<Card, Cancelled> {
    let mut card = Card {
        tested_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        passed: false,
        checks: Vec::new(),
        generation: None,
        backend: None,
        dims: None,
        max_tokens: None,
        true_window: None,
        pooling: None,
        query_prompt: String::new(),
        document_prompt: String::new(),
        load_ms: None,
        short_text_ms: None,
        tokens_per_second: None,
        peak_bytes: None,
    };
    go_on(watch, Stage::Opening)?;
    let began = Instant::now();
    match crate::open(id, path, how) {
        Ok(engine) => {
            let mut trial = Trial { engine, pools: !embedbar_engine::is_package(path), watch, card: &mut card };
            match trial.run(began, declared) {
                Ok(()) => {}
                Err(Ended::Cancelled) => return Err(Cancelled),
                Err(Ended::Failed(error)) => card.note("embeds", false, error.to_string()),
            }
        }
        Err(error) => card.note("opens", false, error.to_string()),
    }
    card.peak_bytes = embedbar_memory::peak_resident_bytes();
    card.passed = card.checks.iter().all(|check| check.passed);
    Ok(card)
}

/// The test was cancelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the self-test was cancelled")]
pub struct Cancelled;

enum Ended {
    Cancelled,
    Failed(CertifyError),
}

impl From<EngineError> for Ended {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

fn go_on(watch: &mut dyn FnMut(Stage) -> ControlFlow<()>, stage: Stage) -> Result<(), Cancelled> {
    if watch(stage).is_break() { Err(Cancelled) } else { Ok(()) }
}

trait Notes {
    fn note(&mut self, name: &str, passed: bool, detail: String);
}

impl Notes for Card {
    fn note(&mut self, name: &str, passed: bool, detail: String) {
        self.checks.push(CardCheck { name: name.to_owned(), passed, detail });
    }
}

struct Trial<'a> {
    engine: Engine,
    /// Whether hidden states become a vector here and not in the model.
    pools: bool,
    watch: &'a mut dyn FnMut(Stage) -> ControlFlow<()>,
    card: &'a mut Card,
}

impl Trial<'_> {
    fn run(&mut self, began: Instant, declared: &Declared) -> Result<(), Ended> {
        let recipe_name = self.engine.own_recipe();
        let recipe = self.engine.recipe(recipe_name);
        let card = &mut *self.card;
        card.generation = Some(self.engine.generation(recipe_name));
        card.backend = Some(self.engine.backend());
        card.dims = Some(self.engine.dims() as u64);
        card.max_tokens = Some(recipe.max_tokens as u64);
        card.pooling = self.pools.then(|| word(recipe.pooling).to_owned());
        card.query_prompt.clone_from(&recipe.prompts.query);
        card.document_prompt.clone_from(&recipe.prompts.document);

        let texts: Vec<String> = probes();
        let first = self.embed(Stage::Embedding, &texts[..1])?;
        let (load, per_text) = (began.elapsed(), first.took);
        self.card.load_ms = Some(load.as_secs_f64() * 1e3);
        self.card.note("opens", true, format!("in {:.0} ms, the first vector included", load.as_secs_f64() * 1e3));
        self.width(&first.vectors[0], declared);
        self.company(&texts, per_text)?;
        self.twice(&texts[0], &first.vectors[0])?;
        if self.pools {
            self.declared(declared, &recipe.prompts, recipe.pooling);
        }
        self.references(declared)?;
        self.window(recipe.max_tokens)?;
        self.speed(&texts, per_text)
    }

    fn embed(&mut self, stage: Stage, texts: &[String]) -> Result<Embedded, Ended> {
        go_on(self.watch, stage).map_err(|_| Ended::Cancelled)?;
        let began = Instant::now();
        let batch = self.engine.embed(texts, PromptKind::None, self.engine.own_recipe())?;
        Ok(Embedded { vectors: batch.vectors, tokens: batch.tokens, took: began.elapsed() })
    }

    /// Finite, of length 1, and as wide as declared.
    fn width(&mut self, vector: &[f32], declared: &Declared) {
        let length = length(vector);
        let finite = vector.iter().all(|number| number.is_finite());
        self.card.note("finite", finite, format!("all of {} numbers", vector.len()));
        let unit = (length - 1.0).abs() <= LENGTH;
        self.card.note("unit length", unit, format!("a vector's length is {length:.6}"));
        let expected = declared.dims.unwrap_or_else(|| self.engine.dims());
        self.card.note("width", vector.len() == expected, format!("{} numbers of {expected}", vector.len()));
    }

    /// The same alone as in company.
    fn company(&mut self, texts: &[String], per_text: Duration) -> Result<(), Ended> {
        let count = if per_text > Duration::from_secs(2) { 2 } else { COMPANY };
        let together = self.embed(Stage::Embedding, &texts[..count])?;
        let mut worst = 0.0_f64;
        for (text, expected) in texts.iter().zip(&together.vectors) {
            let alone = self.embed(Stage::Embedding, std::slice::from_ref(text))?;
            let differences = alone.vectors[0].iter().zip(expected).map(|(one, other)| f64::from((one - other).abs()));
            worst = worst.max(differences.fold(0.0, f64::max));
        }
        let detail = format!("numbers of {count} texts move by {worst:.1e} at most");
        self.card.note("batch equals single", worst <= ALONE, detail);
        Ok(())
    }

    /// The same twice.
    fn twice(&mut self, text: &str, before: &[f32]) -> Result<(), Ended> {
        let again = self.embed(Stage::Embedding, &[text.to_owned()])?;
        let cosine = cosine(before, &again.vectors[0]);
        let same = again.vectors[0] == before;
        let detail = if same { "bit for bit".to_owned() } else { format!("cosine {cosine:.8}") };
        self.card.note("deterministic", same || 1.0 - cosine <= SAME, detail);
        Ok(())
    }

    /// Pooling and prompts as the catalogue has them.
    fn declared(&mut self, declared: &Declared, prompts: &embedbar_engine::Prompts, pooling: Pooling) {
        let detail = match declared.pooling {
            None => format!("`{}`, by its own files; the catalogue does not know it", word(pooling)),
            Some(expected) if expected == pooling => format!("`{}`, as its authors say", word(pooling)),
            Some(expected) => format!("its files say `{}`, its authors `{}`", word(pooling), word(expected)),
        };
        let right = declared.pooling.is_none_or(|expected| expected == pooling);
        self.card.note("pooling", right, detail);
        if let Some((query, document)) = &declared.prompts {
            // Without a file that names prompts a model has none; search adds the catalogue's.
            let own = (prompts.query.as_str(), prompts.document.as_str());
            let silent = own == ("", "");
            let same = own == (query.as_str(), document.as_str());
            let detail = match (same, silent) {
                (true, _) => "as its authors say".to_owned(),
                (false, true) => "its files name none; its authors do".to_owned(),
                (false, false) => format!("its files say {own:?}, its authors {:?}", (query, document)),
            };
            self.card.note("prompts", same || silent, detail);
        }
    }

    /// What another program has made of the same texts.
    fn references(&mut self, declared: &Declared) -> Result<(), Ended> {
        if declared.references.is_empty() || self.engine.own_recipe() != RecipeName::Native {
            return Ok(());
        }
        let texts: Vec<String> = declared.references.iter().map(|reference| reference.text.clone()).collect();
        let made = self.embed(Stage::Embedding, &texts)?;
        let cosines = declared.references.iter().zip(&made.vectors).map(|(reference, vector)| {
            let count = reference.begins.len().min(vector.len());
            cosine(&reference.begins[..count], &vector[..count])
        });
        let least = cosines.fold(1.0, f64::min);
        let few_bits =
            self.card.generation.as_ref().map(|it| it.precision) == Some(embedbar_contract::Precision::FourBit);
        let floor = if few_bits { AGREES_IN_FEW_BITS } else { AGREES };
        let detail = format!("the least cosine with {} vectors by another program is {least:.4}", texts.len());
        self.card.note("reference vectors", least >= floor, detail);
        Ok(())
    }

    /// Text counts up to the declared end, and not beyond it.
    fn window(&mut self, declared: usize) -> Result<(), Ended> {
        // One word again and again is one token, or a few, each time; another one of the same length tells the places apart.
        let Some((plain, odd)) = self.two_words()? else {
            self.card.note("window", true, "not tried: its tokenizer tells no two short words apart".to_owned());
            return Ok(());
        };
        let words = |count: usize, place: Option<usize>| -> Vec<String> {
            let word = |at: usize| if Some(at) == place { odd } else { plain };
            vec![(0..count).map(word).collect::<Vec<_>>().join(" ")]
        };
        let few = self.embed(Stage::Window, &words(8, None))?;
        let more = self.embed(Stage::Window, &words(24, None))?;
        let per_word = (more.tokens[0].saturating_sub(few.tokens[0])) as f64 / 16.0;
        if per_word < 0.5 {
            self.card.note("window", declared <= few.tokens[0], format!("{declared} tokens, all of which are read"));
            self.card.true_window = Some(more.tokens[0] as u64);
            return Ok(());
        }
        let overhead = few.tokens[0] as f64 - 8.0 * per_word;
        let fits = |tokens: usize| ((tokens as f64 - overhead) / per_word).floor().max(1.0) as usize;
        // As long as the time allows: a forward pass grows with its text.
        let mut reach = declared.min(LONGEST);
        let mut tried = 64.min(reach);
        let mut took = self.embed(Stage::Window, &words(fits(tried), None))?.took;
        while tried < reach {
            let next = (2 * tried).min(reach);
            if took.mul_f64(3.0 * 4.0) > WINDOW_TIME {
                reach = tried;
                break;
            }
            took = self.embed(Stage::Window, &words(fits(next), None))?.took;
            tried = next;
        }
        let whole = reach == declared;
        let inside = fits(reach);
        let beyond = fits(declared + 24) + 8;
        let length = if whole { beyond } else { inside };
        let same = self.embed(Stage::Window, &words(length, None))?;
        let last = self.embed(Stage::Window, &words(length, Some(inside - 1)))?;
        let counts = same.vectors[0] != last.vectors[0];
        let ends = if whole {
            let after = self.embed(Stage::Window, &words(length, Some(length - 1)))?;
            same.vectors[0] == after.vectors[0]
        } else {
            true
        };
        self.card.true_window = counts.then_some(reach as u64);
        let detail = match (counts, ends, whole) {
            (true, true, true) => format!("text counts up to token {reach} and not beyond it"),
            (true, true, false) => {
                format!("text counts up to token {reach}, which is as far as was tried of {declared}")
            }
            (false, ..) => {
                format!("a word before token {reach} changes nothing, though {declared} tokens are declared")
            }
            (_, false, _) => format!("a word after token {declared} changes the vector"),
        };
        self.card.note("window", counts && ends, detail);
        Ok(())
    }

    /// Two words of as many tokens as each other and with different vectors.
    fn two_words(&mut self) -> Result<Option<(&'static str, &'static str)>, Ended> {
        let words: Vec<String> = WORDS.iter().map(|word| format!("{word} {word} {word}")).collect();
        let made = self.embed(Stage::Window, &words)?;
        let pairs = (0..WORDS.len()).flat_map(|one| (one + 1..WORDS.len()).map(move |other| (one, other)));
        let mut alike = pairs
            .filter(|&(one, other)| made.tokens[one] == made.tokens[other] && made.vectors[one] != made.vectors[other]);
        Ok(alike.next().map(|(one, other)| (WORDS[one], WORDS[other])))
    }

    /// What it costs here. Not a check: a slow model is as right as a fast one.
    fn speed(&mut self, texts: &[String], per_text: Duration) -> Result<(), Ended> {
        let slow = per_text > Duration::from_secs(2);
        let short = ["where is the key of the cellar kept these days".to_owned()];
        let mut times = Vec::new();
        for _ in 0..if slow { 1 } else { 5 } {
            times.push(self.embed(Stage::Embedding, &short)?.took.as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        self.card.short_text_ms = times.get(times.len() / 2).copied();
        let count = if slow { 1 } else { 16 };
        let long: Vec<String> = texts.chunks(4).take(count).map(|four| four.join(" ")).collect();
        let together = self.embed(Stage::Embedding, &long)?;
        let tokens: usize = together.tokens.iter().sum();
        self.card.tokens_per_second = Some(tokens as f64 / together.took.as_secs_f64().max(1e-6));
        Ok(())
    }
}

struct Embedded {
    vectors: Vec<Vec<f32>>,
    tokens: Vec<usize>,
    took: Duration,
}

fn word(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Mean => "mean",
        Pooling::Cls => "first",
        Pooling::Last => "last",
    }
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt()
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let product: f64 = one.iter().zip(other).map(|(&one, &other)| f64::from(one) * f64::from(other)).sum();
    product / (length(one) * length(other)).max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn bundled() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/bundled/all-MiniLM-L6-v2-int8.gguf")
    }

    fn tested(path: &Path, declared: &Declared) -> Card {
        let go_on = &mut |_| ControlFlow::Continue(());
        trial("it", path, &How::default(), declared, go_on).expect("nobody cancels")
    }

    fn failed(card: &Card) -> Vec<&str> {
        card.checks.iter().filter(|check| !check.passed).map(|check| check.name.as_str()).collect()
    }

    #[test]
    fn the_bundled_model_passes_and_its_window_is_the_declared_one() {
        let declared = Declared { dims: Some(384), pooling: Some(Pooling::Mean), ..Declared::default() };
        let card = tested(&bundled(), &declared);
        assert!(card.passed, "{card:#?}");
        assert_eq!((card.dims, card.max_tokens, card.true_window), (Some(384), Some(256), Some(256)));
        assert!(card.tokens_per_second > Some(1.0) && card.peak_bytes > Some(1 << 20));
    }

    #[test]
    fn what_is_declared_otherwise_fails_by_name() {
        let begins = vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let declared = Declared {
            dims: Some(768),
            pooling: Some(Pooling::Last),
            prompts: Some((String::new(), String::new())),
            references: vec![Reference { text: "A text.".to_owned(), begins }],
        };
        let card = tested(&bundled(), &declared);
        assert_eq!((card.passed, failed(&card)), (false, vec!["width", "pooling", "reference vectors"]));
    }

    #[test]
    fn what_cannot_be_opened_has_a_card_that_says_why() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.gguf");
        std::fs::write(&path, "GGUF and no more").expect("it can be written");
        let card = tested(&path, &Declared::default());
        assert_eq!((card.passed, failed(&card)), (false, vec!["opens"]));
        assert!(card.checks[0].detail.contains("x.gguf"), "{card:#?}");
    }

    #[test]
    fn it_can_be_cancelled_before_each_forward_pass() {
        let mut left = 5;
        let outcome = trial("it", &bundled(), &How::default(), &Declared::default(), &mut |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((outcome.map(drop), left), (Err(Cancelled), 0));
    }
}

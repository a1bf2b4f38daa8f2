//! Files that are not taken: what each is, the sentences that say so, and the refusal where there is nothing else.

use std::path::Path;

use crate::{IntakeError, names};

/// What a file is by its name, if it is none that is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Leftover {
    /// Python's format of objects, which runs what it says.
    Pickle,
    /// A program, in text or not.
    Program,
    /// Weights for another engine.
    Other(&'static str),
    /// An archive.
    Archive,
    /// Anything else.
    Unknown,
}

pub(crate) fn kind(name: &str) -> Leftover {
    match names::extension(name).as_str() {
        "bin" | "pt" | "pth" | "ckpt" | "pkl" | "pickle" | "joblib" => Leftover::Pickle,
        "py" | "pyc" | "pyd" | "so" | "dylib" | "dll" | "exe" | "sh" | "command" | "js" | "ipynb" | "jar" | "app"
        | "pkg" | "scpt" | "bat" | "ps1" => Leftover::Program,
        "onnx" | "onnx_data" => Leftover::Other("ONNX"),
        "h5" | "pb" | "tflite" | "keras" => Leftover::Other("TensorFlow"),
        "msgpack" => Leftover::Other("Flax"),
        "ot" => Leftover::Other("rust-bert"),
        "engine" | "plan" => Leftover::Other("TensorRT"),
        "ggml" | "ggmlv3" => Leftover::Other("GGML, which came before GGUF"),
        "npz" | "npy" => Leftover::Other("NumPy"),
        "mlmodel" => Leftover::Other("Core ML's older models"),
        "zip" | "tar" | "gz" | "tgz" | "7z" | "rar" | "xz" | "bz2" | "zst" | "dmg" | "txz" | "tbz" | "iso" | "lz4"
        | "whl" => Leftover::Archive,
        _ => Leftover::Unknown,
    }
}

/// One sentence for each kind of file that is left out.
pub(crate) fn notes<'a>(left_out: impl Iterator<Item = &'a str>) -> Vec<String> {
    let (mut pickles, mut programs, mut others, mut archives, mut unknown) = (vec![], vec![], vec![], vec![], vec![]);
    for name in left_out {
        match kind(name) {
            Leftover::Pickle => pickles.push(name),
            Leftover::Program => programs.push(name),
            Leftover::Other(_) => others.push(name),
            Leftover::Archive => archives.push(name),
            Leftover::Unknown => unknown.push(name),
        }
    }
    let sentence = |names: &[&str], one: &str, several: &str| {
        (!names.is_empty()).then(|| format!("{} {}", list(names), if names.len() == 1 { one } else { several }))
    };
    [
        sentence(
            &pickles,
            "is a pickle, which is a program; it is left out",
            "are pickles, which are programs; they are left out",
        ),
        sentence(&programs, "is a program; it is left out", "are programs; they are left out"),
        sentence(
            &others,
            "holds weights for another engine; it is left out",
            "hold weights for other engines; they are left out",
        ),
        sentence(&archives, "is an archive; it stays closed", "are archives; they stay closed"),
        sentence(&unknown, "is not needed; it is left out", "are not needed; they are left out"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// At most four names in backticks.
pub(crate) fn list(found: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = found.iter().take(SHOWN).map(|name| format!("`{}`", names::shown(name))).collect();
    match (shown.split_last(), found.len().saturating_sub(SHOWN)) {
        (None, _) => String::new(),
        (Some((last, [])), 0) => last.clone(),
        (Some((last, before)), 0) => format!("{} and {last}", before.join(", ")),
        (_, rest) => format!("{} and {rest} more", shown.join(", ")),
    }
}

/// The refusal of `path`, in which there is nothing but `found`.
pub(crate) fn refusal(path: &Path, found: &[String]) -> IntakeError {
    let path = path.to_path_buf();
    if found.is_empty() {
        return IntakeError::Empty { path };
    }
    let of = |wanted: &dyn Fn(&Leftover) -> bool| -> Vec<String> {
        found.iter().filter(|name| wanted(&kind(name))).map(|name| names::shown(name)).collect()
    };
    let pickles = of(&|it| *it == Leftover::Pickle);
    if !pickles.is_empty() {
        return IntakeError::OnlyPickles { path, files: pickles };
    }
    let others = of(&|it| matches!(it, Leftover::Other(_)));
    let first = others.first().map(|name| kind(name));
    if let Some(Leftover::Other(format)) = first {
        return IntakeError::OtherFormat { path, format, files: others };
    }
    let archives = of(&|it| *it == Leftover::Archive);
    let all: Vec<&str> = found.iter().map(String::as_str).collect();
    let what = archives.first().map_or_else(
        || format!("it holds {}", list(&all)),
        |archive| format!("of archives, only one that is dropped itself is opened; it holds `{archive}`"),
    );
    IntakeError::NotAModel { path, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_said_in_sentences() {
        let names = ["pytorch_model.bin", "modeling.py", "a.onnx", "tf_model.h5", "x.vec"];
        assert_eq!(
            notes(names.into_iter()),
            [
                "`pytorch_model.bin` is a pickle, which is a program; it is left out",
                "`modeling.py` is a program; it is left out",
                "`a.onnx` and `tf_model.h5` hold weights for other engines; they are left out",
                "`x.vec` is not needed; it is left out",
            ]
        );
        assert_eq!(list(&["a", "b", "c", "d", "e", "f"]), "`a`, `b`, `c`, `d` and 2 more");
    }
}

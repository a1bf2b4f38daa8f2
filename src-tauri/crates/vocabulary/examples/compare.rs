//! A tokenizer by the library and compiled, side by side: how long each takes to open and to tokenise, and whether they agree.
//!
//! `cargo run --release -p embedbar-vocabulary --example compare -- tokenizer.json text...`

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use embedbar_vocabulary::{MappedTokenizer, VocabularyError, compile};
use tokenizers::Tokenizer;

/// Sentences as they are searched for, and as they are found.
const SHORT: &str = "how do I renew my passport in Berlin";
const LONG: &str = "The committee met on Thursday to discuss the proposed changes to the library's opening hours, which had been \
    criticised by residents who work during the day. After a long debate, a compromise was found: the main building will \
    stay open until nine in the evening on two days of the week, beginning in October, and it will close earlier on Fridays.";

const ROUNDS: usize = 300;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: compare <tokenizer.json> [text files]")?;
    let json = std::fs::read(Path::new(&path))?;

    // The first opening is what a process pays at its start: classes and tables are made once.
    let start = Instant::now();
    let compiled = compile(&json)?;
    println!("compiling: {:.1?}, {} bytes of {}", start.elapsed(), compiled.len(), json.len());
    let compiled = Arc::new(compiled);
    let open = || MappedTokenizer::open(Arc::<Vec<u8>>::clone(&compiled));

    report("open", 5, || Tokenizer::from_bytes(&json), || open().map_err(|error: VocabularyError| error.into()));
    let mut library = Tokenizer::from_bytes(&json)?;
    library.with_padding(None).with_truncation(None)?;
    let mut mapped = open()?;
    mapped.with_padding(None).with_truncation(None)?;

    for text in [SHORT, LONG] {
        let tokens = library.encode_fast(text, false)?.len();
        let name = format!("encode {tokens} tokens");
        report(&name, ROUNDS, || library.encode_fast(text, false), || mapped.encode_fast(text, false));
    }

    let mut differences = 0;
    for path in arguments {
        let text = std::fs::read_to_string(Path::new(&path))?;
        let name = format!("encode {path}");
        report(&name, 3, || library.encode_fast(text.as_str(), false), || mapped.encode_fast(text.as_str(), false));
        for text in text.lines().chain([text.as_str()]) {
            for special in [false, true] {
                if library.encode(text, special)? != mapped.encode(text, special)? {
                    differences += 1;
                    println!("different: {text:?}");
                }
            }
        }
    }
    let largest = library.get_vocab(true).into_values().max();
    println!("largest id {largest:?}, {}; {differences} texts differ", mapped.largest_id());
    Ok(())
}

/// Prints the median of `rounds` by each, in turns, and the first one of each.
fn report<A, B>(
    name: &str,
    rounds: usize,
    mut library: impl FnMut() -> tokenizers::Result<A>,
    mut mapped: impl FnMut() -> tokenizers::Result<B>,
) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        times[0].push(timed(&mut library));
        times[1].push(timed(&mut mapped));
    }
    let [library, mapped] = times.map(|mut times| {
        let first = times[0];
        times.sort_unstable();
        (times[times.len() / 2], first)
    });
    println!(
        "{name}: library {:.1?} (first {:.1?}), mapped {:.1?} (first {:.1?})",
        library.0, library.1, mapped.0, mapped.1
    );
}

fn timed<T>(work: &mut impl FnMut() -> tokenizers::Result<T>) -> Duration {
    let start = Instant::now();
    let result = black_box(work());
    let time = start.elapsed();
    assert!(result.is_ok(), "both can do it");
    time
}

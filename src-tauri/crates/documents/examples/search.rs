//! Times searches alone: indexes a folder with made-up vectors of the bundled model's width, then searches it again and again.
//!
//! `cargo run --release -p embedbar-documents --example search -- FOLDER QUERY…`; what is found by meaning is meaningless here.

use std::path::PathBuf;
use std::time::Instant;

use embedbar_contract::{Failure, Generation, Precision, RecipeName, SearchRequest};
use embedbar_documents::{Control, Embedded, Embedder, Index, QueryVector};

const DIMS: usize = 384;
const REPEATS: usize = 20;

struct MadeUp;

fn vector(text: &str) -> Vec<f32> {
    let mut state = text.bytes().fold(1_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let numbers: Vec<f32> = (0..DIMS)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    numbers.into_iter().map(|number| number / length).collect()
}

fn generation() -> Generation {
    Generation { model: "made-up".into(), revision: "0".into(), precision: Precision::Int8, recipe: RecipeName::Native }
}

impl Embedder for MadeUp {
    fn embed_documents(&self, texts: Vec<String>) -> Result<Embedded, Failure> {
        Ok(Embedded { vectors: texts.iter().map(|text| vector(text)).collect(), generation: generation() })
    }

    fn generation(&self) -> Option<Generation> {
        Some(generation())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name a folder")?).canonicalize()?;
    let home = tempfile::tempdir()?;
    let index = Index::open(&home.path().join("index.sqlite"))?;
    let started = Instant::now();
    let outcome = index.refresh(&folder, &MadeUp, &Control::new(), &mut |_| {})?;
    println!("{outcome:?} in {:.1} s", started.elapsed().as_secs_f64());
    for query in arguments {
        let (vector, generation) = (vector(&query), generation());
        let query_vector = Some(QueryVector { vector: &vector, generation: &generation });
        let mut milliseconds = Vec::new();
        for with_vector in [true, false] {
            let mut times: Vec<f64> = Vec::new();
            for _ in 0..REPEATS {
                let started = Instant::now();
                let request = SearchRequest { query: query.clone(), limit: 10 };
                index.search(&request, query_vector.filter(|_| with_vector))?;
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            milliseconds.push(times[REPEATS / 2]);
        }
        println!("{query}: {:.1} ms, by words alone {:.1} ms", milliseconds[0], milliseconds[1]);
    }
    Ok(())
}

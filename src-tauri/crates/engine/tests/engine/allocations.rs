//! Once the largest batch has been seen, the kernels' encoders take no intermediate result from the allocator.

#![expect(unsafe_code, reason = "an allocator that looks on")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use candle_core::quantized::GgmlDType;
use embedbar_contract::{PromptKind, RecipeName};
use embedbar_engine::{Arithmetic, Engine, How};

use crate::make;

thread_local! {
    /// The largest allocation of this thread since it was last set, in bytes.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watching;

// SAFETY: it passes everything on to the system's.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(size));
        // SAFETY: as the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Tokens of the text, and the width of the models.
const TOKENS: usize = 62;
const HIDDEN: usize = 256;

fn largest_of_the_second_time(engine: &mut Engine, recipe: RecipeName) -> usize {
    let words: Vec<String> = (0..TOKENS - 2).map(|word| format!("w{}", word % make::WORDS)).collect();
    let texts = [words.join(" ")];
    for _ in 0..2 {
        LARGEST.set(0);
        let batch = engine.embed(&texts, PromptKind::None, recipe).expect("it can be embedded");
        // The SDK's recipe reads 32.
        assert!(batch.tokens[0] >= 32, "{} tokens", batch.tokens[0]);
    }
    LARGEST.get()
}

#[test]
fn intermediate_results_are_kept_from_one_batch_to_the_next() {
    for model in [make::bert(HIDDEN), make::nomic_bert(HIDDEN), make::qwen3(HIDDEN)] {
        for dtype in [GgmlDType::F32, GgmlDType::F16, GgmlDType::Q8_0, GgmlDType::Q4K] {
            let folder = tempfile::tempdir().expect("a folder");
            model.write_gguf(folder.path(), dtype);
            let open = |arithmetic| {
                let how = How { arithmetic, ..How::default() };
                Engine::open_as("test", &folder.path().join("model.gguf"), &how).expect("it can be opened")
            };
            // The codes of the hidden states, a byte each, are the smallest of the results that a layer hands on.
            let smallest = TOKENS * HIDDEN;
            let mut engine = open(Arithmetic::Kernels);
            for recipe in [RecipeName::Native, RecipeName::Papr] {
                let largest = largest_of_the_second_time(&mut engine, recipe);
                assert!(largest < smallest, "{dtype:?} {recipe}: {largest} bytes");
            }
            // Otherwise this could not fail.
            assert!(largest_of_the_second_time(&mut open(Arithmetic::Candle), RecipeName::Native) >= smallest);
        }
    }
}

//! Looks for bytes of which `embedbar_hostile::gguf_header` does not hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| embedbar_hostile::gguf_header(bytes));

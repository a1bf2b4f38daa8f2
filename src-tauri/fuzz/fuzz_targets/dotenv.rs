//! Looks for bytes of which `embedbar_hostile::dotenv` does not hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| embedbar_hostile::dotenv(bytes));

//! Makes `EMBEDBAR_BUILD`: a fingerprint of everything that crosses a process boundary.
//!
//! Two programs with the same fingerprint understand each other, whatever else differs between their builds.

use std::fs;
use std::path::Path;

fn main() {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a, 64 bits: stable across platforms and compilers
    for folder in ["src", "../contract/src"] {
        println!("cargo::rerun-if-changed={folder}");
        let mut files: Vec<_> = fs::read_dir(Path::new(folder))
            .expect("the source folder exists")
            .map(|entry| entry.expect("the source folder can be listed").path())
            .collect();
        files.sort();
        for file in files {
            for byte in fs::read(&file).expect("a source file can be read") {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    println!("cargo::rustc-env=EMBEDBAR_BUILD={hash:016x}");
}

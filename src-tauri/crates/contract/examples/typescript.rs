//! Writes the TypeScript half of the contract to the file named by the first argument.
//!
//! `cargo xtask contract` runs this, so that xtask itself depends on nothing of ours and builds in seconds.

use std::io::Error;

fn main() -> Result<(), Error> {
    let path = std::env::args_os().nth(1).ok_or_else(|| Error::other("name the file to write"))?;
    std::fs::write(path, embedbar_contract::typescript())
}

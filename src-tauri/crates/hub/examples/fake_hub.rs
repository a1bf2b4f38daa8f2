//! The tests' hub as a server of its own, for real clients: `fake_hub [PORT] [MEBIBYTES|FILE] [cuts|xet]`.
//!
//! It prints its address and serves `owner/name`: two small files and one of so many mebibytes (1), or a file of the disk. With `cuts` every
//! answer of the storage ends after 3 MiB; with `xet` the listing names the newer storage, which is not there. `GET /served`
//! says how many bytes of files it has sent.

#[path = "../tests/fake_hub/mod.rs"]
mod fake_hub;

use std::env;
use std::io::Write as _;
use std::path::Path;

use fake_hub::{Content, FakeHub, Fault};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = env::args().skip(1);
    let port = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let model = arguments.next().unwrap_or_else(|| "1".to_owned());
    let model = match model.parse::<usize>() {
        Ok(mebibytes) => Content::new(noise(mebibytes << 20), true),
        Err(_) => Content::of_file(Path::new(&model))?,
    };
    let files = vec![
        ("1_Pooling/config.json", Content::new(b"{\"pooling\": \"mean\"}\n".to_vec(), false)),
        ("config.json", Content::new(b"{\"hidden_size\": 384}\n".to_vec(), false)),
        ("model.safetensors", model),
    ];
    let hub = FakeHub::start_at("owner/name", files, port).await?;
    match arguments.next().as_deref() {
        Some("cuts") => hub.misbehave(|request| if request.is_bytes() { Fault::Cut(3 << 20) } else { Fault::None }),
        Some("xet") => hub.list_xet(),
        _ => {}
    }
    let mut output = std::io::stdout();
    writeln!(output, "{}", hub.endpoint)?;
    output.flush()?;
    std::future::pending().await
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes
}

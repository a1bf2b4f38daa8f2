//! How MLX quantises the weights of a checkpoint: what `config.json` says of it, and from packed integers to numbers.
//!
//! A module `p` that is quantised has `p.weight` (`U32`, `[rows, row * bits / 32]`, words little-endian, the first number in the
//! lowest bits, numbers running on from one word to the next), `p.scales` and `p.biases` (`[rows, row / group]`); a number is
//! `q * scale + bias`, and a scale may be negative (mlx, `ops.cpp`; mlx-lm, `utils.py`). `config.json` gives bits and group for all
//! modules and other ones for some.
//!
//! Only this, the affine mode. The floating-point modes (`mxfp4`, `mxfp8`, `nvfp4`) have other scales and are refused by name.
//! Which tensors a file has, and where their bytes are, is the affair of whoever reads it; nothing here reads a file.

mod integers;
mod settings;

pub use integers::{Bits, Packing};
pub use settings::{Quantisation, Refused};

//! A frame: two lengths, a JSON header, and bytes.
//!
//! ```text
//! u32 little-endian   length of the header, at most 16 MiB
//! u32 little-endian   length of the payload, at most 256 MiB
//! header              JSON
//! payload             bytes; vectors travel here as little-endian f32
//! ```
//!
//! The worker reads and writes with plain threads, the owner with tokio; both halves are here so that they cannot differ.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest header that is read or written.
pub const MAX_HEADER_BYTES: usize = 16 << 20;
/// The longest payload that is read or written.
pub const MAX_PAYLOAD_BYTES: usize = 256 << 20;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side is gone, between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// A length is over its limit.
    #[error("a frame's {part} has {bytes} bytes, over the limit of {limit}")]
    TooLong {
        /// `header` or `payload`.
        part: &'static str,
        /// What the frame says.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The header is not the JSON that was expected.
    #[error("a frame's header is not understood")]
    Header(#[source] serde_json::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// A header and its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<T> {
    /// What is said.
    pub header: T,
    /// The bytes that go with it.
    pub payload: Vec<u8>,
}

impl<T> From<T> for Frame<T> {
    fn from(header: T) -> Self {
        Self { header, payload: Vec::new() }
    }
}

impl<T: Serialize> Frame<T> {
    fn lengths_and_header(&self) -> Result<Vec<u8>, FrameError> {
        let mut bytes = vec![0; 8];
        serde_json::to_writer(&mut bytes, &self.header).map_err(FrameError::Header)?;
        let (header, payload) = (bytes.len() - 8, self.payload.len());
        check(header, payload)?;
        bytes[..4].copy_from_slice(&(header as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(payload as u32).to_le_bytes());
        Ok(bytes)
    }

    /// Writes the frame and flushes.
    pub fn write(&self, output: &mut impl Write) -> Result<(), FrameError> {
        output.write_all(&self.lengths_and_header()?)?;
        output.write_all(&self.payload)?;
        Ok(output.flush()?)
    }

    /// Writes the frame and flushes.
    pub async fn write_async(&self, output: &mut (impl AsyncWrite + Unpin)) -> Result<(), FrameError> {
        output.write_all(&self.lengths_and_header()?).await?;
        output.write_all(&self.payload).await?;
        Ok(output.flush().await?)
    }
}

impl<T: DeserializeOwned> Frame<T> {
    /// Reads the next frame; [`FrameError::Closed`] at a clean end.
    pub fn read(input: &mut impl Read) -> Result<Self, FrameError> {
        let mut lengths = [0; 8];
        input.read_exact(&mut lengths).map_err(closed)?;
        let (header, payload) = parse_lengths(lengths)?;
        let mut header_bytes = vec![0; header];
        input.read_exact(&mut header_bytes)?;
        let mut payload = vec![0; payload];
        input.read_exact(&mut payload)?;
        Ok(Self { header: serde_json::from_slice(&header_bytes).map_err(FrameError::Header)?, payload })
    }

    /// Reads the next frame; [`FrameError::Closed`] at a clean end. Not cancellation-safe: give it a task of its own.
    pub async fn read_async(input: &mut (impl AsyncRead + Unpin)) -> Result<Self, FrameError> {
        let mut lengths = [0; 8];
        input.read_exact(&mut lengths).await.map_err(closed)?;
        let (header, payload) = parse_lengths(lengths)?;
        let mut header_bytes = vec![0; header];
        input.read_exact(&mut header_bytes).await?;
        let mut payload = vec![0; payload];
        input.read_exact(&mut payload).await?;
        Ok(Self { header: serde_json::from_slice(&header_bytes).map_err(FrameError::Header)?, payload })
    }
}

fn closed(error: io::Error) -> FrameError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => FrameError::Closed,
        _ => FrameError::Io(error),
    }
}

fn parse_lengths(bytes: [u8; 8]) -> Result<(usize, usize), FrameError> {
    let both = u64::from_le_bytes(bytes);
    let (header, payload) = ((both & 0xffff_ffff) as usize, (both >> 32) as usize);
    check(header, payload)?;
    Ok((header, payload))
}

fn check(header: usize, payload: usize) -> Result<(), FrameError> {
    for (part, bytes, limit) in [("header", header, MAX_HEADER_BYTES), ("payload", payload, MAX_PAYLOAD_BYTES)] {
        if bytes > limit {
            return Err(FrameError::TooLong { part, bytes, limit });
        }
    }
    Ok(())
}

/// Vectors end to end as a payload.
pub fn floats_to_bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|float| float.to_le_bytes()).collect()
}

/// A payload as vectors end to end; `None` where its length is no multiple of four.
pub fn bytes_to_floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (quads, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| quads.iter().map(|quad| f32::from_le_bytes(*quad)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let frame = Frame { header: vec!["a".to_owned(), "ü".to_owned()], payload: floats_to_bytes(&[1.5, -0.25]) };
        let mut bytes = Vec::new();
        frame.write(&mut bytes).expect("writing to memory");
        let mut input = bytes.as_slice();
        let back: Frame<Vec<String>> = Frame::read(&mut input).expect("our own frame");
        assert_eq!(back, frame);
        assert_eq!(bytes_to_floats(&back.payload), Some(vec![1.5, -0.25]));
        assert!(matches!(Frame::<Vec<String>>::read(&mut input), Err(FrameError::Closed)));
    }

    #[test]
    fn an_absurd_length_is_refused_before_anything_is_allocated() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert!(matches!(Frame::<()>::read(&mut bytes), Err(FrameError::TooLong { part: "header", .. })));
    }

    #[test]
    fn a_frame_cut_short_is_an_error_and_not_a_clean_end() {
        let mut bytes = Vec::new();
        Frame { header: 7, payload: vec![1, 2, 3] }.write(&mut bytes).expect("writing to memory");
        let mut cut = &bytes[..bytes.len() - 1];
        assert!(matches!(Frame::<i32>::read(&mut cut), Err(FrameError::Io(_))));
    }
}

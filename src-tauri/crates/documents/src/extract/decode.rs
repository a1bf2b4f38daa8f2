//! Bytes to characters: UTF-8, UTF-16 with its mark, or the old encoding that the bytes look most like.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// In text at most this share of control characters; in random bytes it is a tenth.
const MOST_CONTROLS: f64 = 0.03;

/// The text of `bytes`, or the phrase for why it is none; `sample` bytes are looked at to tell.
pub(super) fn text(bytes: &[u8], sample: usize) -> Result<String, String> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        let (text, broken) = encoding.decode_without_bom_handling(&bytes[mark..]);
        let head = text.as_bytes();
        if looks_binary(&head[..head.len().min(sample)]) {
            return Err("binary".into());
        }
        return if broken && encoding != UTF_8 { Err(format!("broken {}", encoding.name())) } else { Ok(text.into()) };
    }
    if looks_binary(&bytes[..bytes.len().min(sample)]) {
        return Err("binary".into());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) if mostly_utf8(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Err(_) => old_encoding(bytes),
    }
}

fn looks_binary(head: &[u8]) -> bool {
    let controls = head.iter().filter(|byte| is_control(**byte)).count();
    head.contains(&0) || controls as f64 > head.len() as f64 * MOST_CONTROLS
}

/// Control characters that no text has; backspace and escape occur in formatted manuals and terminal logs.
fn is_control(byte: u8) -> bool {
    matches!(byte, 0x01..=0x07 | 0x0E..=0x1A | 0x1C..=0x1F | 0x7F)
}

/// Whether the broken sequences are few beside the whole ones, as in a log with a few bad bytes.
fn mostly_utf8(bytes: &[u8]) -> bool {
    let (mut whole, mut broken) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        whole += chunk.valid().chars().filter(|character| !character.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    whole >= broken * 10
}

fn old_encoding(bytes: &[u8]) -> Result<String, String> {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    let (text, _, broken) = encoding.decode(bytes);
    // windows-1252 and its kin decode anything: what is then full of C1 controls was no text.
    let controls = text.chars().filter(|it| matches!(it, '\u{80}'..='\u{9F}' | '\u{FFFD}')).count();
    if broken || controls * 50 > text.chars().count() {
        return Err("neither UTF-8 nor any other known encoding".into());
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        text(bytes, 8192)
    }

    #[test]
    fn common_encodings_are_read() {
        let utf16 = |order: fn(u16) -> [u8; 2], mark: [u8; 2]| {
            mark.into_iter().chain("Grüße, 世界".encode_utf16().flat_map(order)).collect::<Vec<u8>>()
        };
        assert_eq!(read(&utf16(u16::to_le_bytes, [0xFF, 0xFE])).unwrap(), "Grüße, 世界");
        assert_eq!(read(&utf16(u16::to_be_bytes, [0xFE, 0xFF])).unwrap(), "Grüße, 世界");
        assert_eq!(read(b"\xEF\xBB\xBFmarked").unwrap(), "marked");
        assert_eq!(
            read(b"Die Stra\xDFe ist f\xFCr Fu\xDFg\xE4nger sch\xF6n").unwrap(),
            "Die Straße ist für Fußgänger schön"
        );
        let (japanese, _, _) = encoding_rs::SHIFT_JIS.encode("日本語の文章をここに書きます。これは試験です。");
        assert_eq!(read(&japanese).unwrap(), "日本語の文章をここに書きます。これは試験です。");
        let mut log = "zażółć gęślą jaźń ".repeat(20).into_bytes();
        log.extend(b"\xFF end");
        assert!(read(&log).unwrap().ends_with("\u{FFFD} end"));
        assert_eq!(read(b"").unwrap(), "");
    }

    #[test]
    fn binary_is_told_from_text() {
        assert_eq!(read(b"\x7FELF\x02\x01\x01\0\0\0").unwrap_err(), "binary");
        let noise: Vec<u8> = (0..4096_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect();
        assert_eq!(read(&noise).unwrap_err(), "binary");
        assert!(read(b"N\x08NA\x08AM\x08ME\x08E and \x1b[1mbold\x1b[0m").is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, marked in 0..4) {
            let mark: &[u8] = [&b""[..], b"\xFF\xFE", b"\xFE\xFF", b"\xEF\xBB\xBF"][marked as usize];
            let _ = read(&[mark, &bytes].concat());
        }

        #[test]
        fn utf8_text_is_read_as_it_is(words in "(\\PC|[ \n\t]){0,200}") {
            prop_assume!(!words.starts_with('\u{FEFF}'));
            prop_assert_eq!(read(words.as_bytes()).unwrap(), words);
        }
    }
}

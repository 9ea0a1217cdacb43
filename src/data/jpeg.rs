//! What a JPEG is made of, looked at before it is decoded.

use std::path::Path;

use super::foreign::CONVERT;
use crate::Error;

/// Why a JPEG cannot be used: of a kind that is not decoded, or cut short. The decoder fills the missing part of a
/// truncated one with grey, which a detector would call a defect or, worse, learn. A complete one has an end-of-image
/// marker after its first scan.
///
/// Stray bytes between segments are skipped, as every decoder does.
pub(super) fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut at = 2;
    while let Some((marker, segment)) = next_segment(bytes, &mut at) {
        match marker {
            0xda if segment.windows(2).any(|pair| pair == [0xff, 0xd9]) => return Ok(()),
            0xda => return Err(Fault::CutShort),
            // A frame: its type, and the bits of its samples.
            0xc0..=0xc2 => match segment.get(2) {
                Some(8) | None => {}
                Some(bits) => return Err(Fault::Kind(format!("a JPEG of {bits} bits"))),
            },
            0xc3 | 0xcb => return Err(Fault::Kind("a lossless JPEG".into())),
            0xc9 | 0xca => return Err(Fault::Kind("a JPEG with arithmetic coding".into())),
            0xc5..=0xc7 | 0xcd..=0xcf => return Err(Fault::Kind("a hierarchical JPEG".into())),
            0xf7 => return Err(Fault::Kind("a JPEG-LS".into())),
            _ => {}
        }
        if let 0x01 | 0xd0..=0xd9 = marker {
            continue; // has no length
        }
        let length = segment.get(..2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        at += usize::from(length.unwrap_or(0));
    }
    Err(Fault::CutShort)
}

/// See [`check`].
pub(super) enum Fault {
    /// Sound, but of this kind.
    Kind(String),
    CutShort,
}

impl Fault {
    pub fn in_file(self, path: &Path) -> Error {
        Error::file(
            path,
            match self {
                Self::Kind(kind) => format!("{kind}, which is not read; {CONVERT}"),
                Self::CutShort => "the JPEG is cut short (no end-of-image marker); copy the file \
                                   again"
                    .into(),
            },
        )
    }
}

/// The next marker from `at` on, and everything after it; `at` is then behind the marker.
fn next_segment<'a>(bytes: &'a [u8], at: &mut usize) -> Option<(u8, &'a [u8])> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)?;
        // Any number of 0xff comes before a marker; a zero after them is none.
        *at += bytes[*at..].iter().position(|&byte| byte != 0xff)?;
        *at += 1;
        match bytes[*at - 1] {
            0 => {}
            marker => return Some((marker, &bytes[*at..])),
        }
    }
}

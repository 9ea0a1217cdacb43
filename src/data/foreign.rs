//! What a file is that is no picture that can be read: who is told finds the way to one that can.

/// How a picture of another kind becomes one that can be read.
pub(super) const CONVERT: &str =
    "convert it to PNG, for example with ImageMagick: `magick FILE FILE.png`";
const DOWNLOAD: &str = "the download failed or needs a log-in: get the picture itself";
const DEVELOP: &str = "develop it into a TIFF or PNG, for example with darktable or `dcraw -T`";
const UNPACK: &str = "unpack it";
const FRAME: &str = "take pictures out of it, for example with `ffmpeg -i FILE %04d.png`";
const EXPORT: &str = "export it as PNG";
const POINTER: &str = "get the files themselves with `git lfs pull`";

/// What files begin with, what they are, and what to do.
const SIGNATURES: [(&[u8], &str, &str); 35] = [
    (b"GIF8", "a GIF", CONVERT),
    (b"8BPS", "a Photoshop document (PSD)", EXPORT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000", CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000", CONVERT),
    (b"\0\0\0\x0cJXL ", "a JPEG XL", CONVERT),
    (b"\xff\x0a", "a JPEG XL", CONVERT),
    (b"\x76\x2f\x31\x01", "an OpenEXR", CONVERT),
    (b"#?RADIANCE", "a Radiance HDR", CONVERT),
    (b"DDS ", "a DDS", CONVERT),
    (b"qoif", "a QOI", CONVERT),
    (b"farbfeld", "a farbfeld", CONVERT),
    (b"\0\0\x01\0", "an icon (ICO)", CONVERT),
    (b"II\xbc\x01", "a JPEG XR", CONVERT),
    (b"P1", "a netpbm picture", CONVERT),
    (b"P2", "a netpbm picture", CONVERT),
    (b"P3", "a netpbm picture", CONVERT),
    (b"P4", "a netpbm picture", CONVERT),
    (b"P5", "a netpbm picture", CONVERT),
    (b"P6", "a netpbm picture", CONVERT),
    (b"P7", "a netpbm picture", CONVERT),
    (b"SIMPLE  =", "a FITS", CONVERT),
    (b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)", DEVELOP),
    (b"FOVb", "a camera's raw file (X3F)", DEVELOP),
    (b"IIRO", "a camera's raw file (ORF)", DEVELOP),
    (b"IIRS", "a camera's raw file (ORF)", DEVELOP),
    (b"IIU\0", "a camera's raw file (RW2)", DEVELOP),
    (b"\x93NUMPY", "an array of NumPy", EXPORT),
    (b"\x89HDF\r\n", "an HDF5 file", EXPORT),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska)", FRAME),
    (b"%PDF", "a PDF", EXPORT),
    (b"PK\x03\x04", "a ZIP archive", UNPACK),
    (b"\x1f\x8b", "a gzip archive", UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", UNPACK),
    (b"Rar!", "a RAR archive", UNPACK),
    (b"version https://git-lfs", "a Git-LFS pointer", POINTER),
];

/// What follows `ftyp` in files of boxes: AVIF, HEIC, videos.
const BRANDS: [(&[u8], &str, &str); 6] = [
    (b"avi", "an AVIF", CONVERT),
    (b"he", "a HEIC", CONVERT),
    (b"mif1", "a HEIF", CONVERT),
    (b"msf1", "a HEIF", CONVERT),
    (b"jp2 ", "a JPEG 2000", CONVERT),
    (b"crx", "a camera's raw file (CR3)", DEVELOP),
];

/// What a file is and what to do, in words; none where it may be a picture.
pub(super) fn what(bytes: &[u8]) -> Option<(String, &'static str)> {
    let of = |table: &[(&[u8], &str, &'static str)], bytes: &[u8]| {
        let found = table.iter().find(|(start, ..)| bytes.starts_with(start));
        found.map(|&(_, what, how)| (what.to_string(), how))
    };
    if let Some(brand) = bytes.get(8..)
        && bytes[4..8] == *b"ftyp"
    {
        return Some(of(&BRANDS, brand).unwrap_or_else(|| ("a video (MP4)".into(), FRAME)));
    }
    if bytes.get(128..132) == Some(b"DICM") {
        return Some(("a DICOM".into(), EXPORT));
    }
    if bytes.iter().all(|&byte| byte == 0) {
        let what = "nothing but zeros: the file was never written, or its disk is damaged";
        return Some((what.into(), "copy it again"));
    }
    of(&SIGNATURES, bytes).or_else(|| text(bytes))
}

/// A page of HTML or XML, or another text.
fn text(bytes: &[u8]) -> Option<(String, &'static str)> {
    let start = &bytes[..bytes.len().min(1024)];
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let start = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A letter may be cut where the start ends.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&start[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if start.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let lower = start.trim_start().to_ascii_lowercase();
    Some(match () {
        () if lower.contains("<svg") => ("an SVG drawing".into(), EXPORT),
        () if lower.starts_with("<!doctype html") || lower.contains("<html") => {
            ("a page of HTML".into(), DOWNLOAD)
        }
        () if lower.starts_with('<') => ("an XML file".into(), DOWNLOAD),
        () => {
            let words: String = start.trim().chars().take(30).collect();
            (format!("a text, {words:?}"), "put the picture there")
        }
    })
}

//! Files that are no pictures, or pictures of another kind than their names say.

use std::io::Cursor;

use astray::data::image::dimensions;
use astray::data::{DepthMap, Meaning, Rgb};
use image::{DynamicImage, ImageFormat, RgbImage};

use super::{assert_error, uniform};

fn jpeg() -> Vec<u8> {
    let noise = uniform(7, 32 * 24 * 3)
        .iter()
        .map(|u| (u * 256.0) as u8)
        .collect();
    let picture = DynamicImage::from(RgbImage::from_raw(32, 24, noise).unwrap());
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// Where a marker begins.
fn marker(bytes: &[u8], marker: u8) -> usize {
    let at = bytes.windows(2).position(|pair| pair == [0xff, marker]);
    at.expect("the marker is there")
}

#[test]
fn another_kind_of_file_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let boxes = |brand: &str| format!("\0\0\0\x1cftyp{brand}\0\0\0\0mif1").into_bytes();
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n";
    for (bytes, words) in [
        (b"GIF89a\x48\0\x30\0".to_vec(), ["a GIF", "magick"]),
        (boxes("avif"), ["an AVIF", "magick"]),
        (boxes("heic"), ["a HEIC", "magick"]),
        (boxes("isom"), ["a video", "ffmpeg"]),
        (boxes("crx "), ["raw file (CR3)", "develop"]),
        (
            b"\0\0\0\x0cjP  \r\n\x87\n".to_vec(),
            ["a JPEG 2000", "magick"],
        ),
        (b"8BPS\0\x01".to_vec(), ["a Photoshop document", "export"]),
        (
            b"FUJIFILMCCD-RAW 0201".to_vec(),
            ["raw file (RAF)", "develop"],
        ),
        (b"II\x55\0\x18\0".to_vec(), ["raw file (RW2)", "develop"]),
        (b"P5\n2 2\n255\n".to_vec(), ["a netpbm picture", "magick"]),
        (b"PK\x03\x04".to_vec(), ["a ZIP archive", "unpack"]),
        (vec![0; 5000], ["nothing but zeros", "copy it again"]),
        (vec![1, 2, 3, 250, 251], ["01, 02, 03, fa, fb", "magick"]),
        (
            b"<html>404</html>".to_vec(),
            ["a page of HTML", "the download failed"],
        ),
        (
            b"\xef\xbb\xbf\n<!DOCTYPE HTML><p>".to_vec(),
            ["a page of HTML", "the download failed"],
        ),
        (
            b"<?xml version=\"1.0\"?><Error>".to_vec(),
            ["an XML file", "the download failed"],
        ),
        (
            b"<?xml version=\"1.0\"?><svg>".to_vec(),
            ["an SVG drawing", "export"],
        ),
        (lfs.into(), ["a Git-LFS pointer", "git lfs pull"]),
        ("{\"error\": \"größer\"}".into(), ["a text", "größer"]),
    ] {
        for name in ["part.png", "part.jpg", "part.tif"] {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let words = [name, words[0], words[1], "expected one of bmp"];
            assert_error(Rgb::load(&path, None), &words);
            assert_error(dimensions(&path), &words);
            assert_error(DepthMap::load(&path, &Meaning::default()), &words);
        }
    }
}

#[test]
fn jpegs_of_other_kinds_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.jpg");
    let whole = jpeg();
    let frame = marker(&whole, 0xc0);
    for (kind, words) in [
        (0xc3, "a lossless JPEG"),
        (0xc9, "arithmetic coding"),
        (0xca, "arithmetic coding"),
        (0xc5, "hierarchical"),
        (0xf7, "a JPEG-LS"),
    ] {
        let mut bytes = whole.clone();
        bytes[frame + 1] = kind;
        std::fs::write(&path, bytes).unwrap();
        assert_error(Rgb::load(&path, None), &["part.jpg", words, "magick"]);
    }
    let mut bytes = whole.clone();
    bytes[frame + 4] = 12;
    std::fs::write(&path, bytes).unwrap();
    assert_error(Rgb::load(&path, None), &["a JPEG of 12 bits", "magick"]);
}

#[test]
fn stray_bytes_between_segments_are_skipped_and_cut_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.jpg");
    let whole = jpeg();
    std::fs::write(&path, &whole).unwrap();
    let expected = Rgb::load(&path, None).unwrap();
    for stray in [&b"\0\0\0"[..], b"\0", b"camera", b"\xff\xff"] {
        for before in [0xdb, 0xc0, 0xda] {
            let at = marker(&whole, before);
            let bytes = [&whole[..at], stray, &whole[at..]].concat();
            std::fs::write(&path, &bytes).unwrap();
            let found = Rgb::load(&path, None);
            assert_eq!(found.unwrap(), expected, "{stray:?} before {before:x}");
            for keep in [bytes.len() - 2, bytes.len() / 2, at + 2] {
                std::fs::write(&path, &bytes[..keep]).unwrap();
                assert_error(Rgb::load(&path, None), &["part.jpg", "cut short", "copy"]);
            }
        }
    }
}

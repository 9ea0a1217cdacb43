//! Pictures, depth maps, masks, folders and the cache, against Pillow, numpy and scipy
//! (tests/reference/data, made by tools/reference_data.py), on files the tests make, and on bad
//! input.

mod damaged;
mod depth;
mod files;
mod folders;
mod layouts;
mod tiffs;

use std::io::Cursor;
use std::path::Path;

use astray::data::image::dimensions;
use astray::data::resize::{resize_f32, resize_u8};
use astray::data::{DepthMap, Mask, Meaning, Pixels, Resize, Rgb};
use astray::models::efficientnet::Normalisation;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, RgbImage};
use safetensors::SafeTensors;

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/data/");

/// Splitmix64, as in tools/reference_data.py: multiples of 2^-24 in [0, 1).
pub fn uniform(seed: u64, n: usize) -> Vec<f64> {
    (0..n as u64)
        .map(|i| {
            let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 40) as f64 / (1u64 << 24) as f64
        })
        .collect()
}

pub fn reference_u8(file: &str, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(format!("{REFERENCE}{file}")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(name).unwrap().data().to_vec()
}

fn reference_f32(file: &str, name: &str) -> Vec<f32> {
    let bytes = reference_u8(file, name);
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

/// The message of an error, which must name the file and contain every one of `words`.
fn assert_error<T: std::fmt::Debug>(result: astray::Result<T>, words: &[&str]) {
    let message = result.unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

fn save(path: &Path, picture: impl Into<DynamicImage>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.into().save(path).unwrap();
}

// ---- resize ----------------------------------------------------------------------------------

type Size = (usize, usize);

/// Seed, channels, size before and after.
const RESIZES: [(u64, usize, Size, Size); 10] = [
    (1, 3, (64, 48), (24, 24)),
    (2, 3, (37, 53), (61, 29)),
    (3, 3, (101, 7), (13, 40)),
    (4, 1, (50, 41), (33, 33)),
    (5, 3, (5, 3), (48, 64)),
    (6, 3, (40, 40), (40, 17)),
    (7, 1, (17, 40), (9, 40)),
    (8, 3, (300, 200), (64, 64)),
    (9, 3, (1, 1), (4, 4)),
    (10, 3, (33, 1000), (32, 32)),
];

/// As `assert_eq!`, but says where and how much, not everything.
fn assert_same<T: PartialEq + std::fmt::Debug>(found: &[T], expected: &[T], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differs = |&i: &usize| found[i] != expected[i];
    let differing = (0..found.len()).filter(differs).count();
    if let Some(i) = (0..found.len()).find(differs) {
        panic!(
            "{what}: {differing} of {} differ, first [{i}]: {:?}, expected {:?}",
            found.len(),
            found[i],
            expected[i]
        );
    }
}

#[test]
fn resize_equals_pillow_bit_for_bit() {
    for (seed, channels, from, to) in RESIZES {
        let noise = uniform(seed, from.0 * from.1 * channels);
        let pixels: Vec<u8> = noise.iter().map(|u| (u * 256.0) as u8).collect();
        let expected = reference_u8("resize.safetensors", &format!("u8_{seed}"));
        let found = if channels == 3 {
            resize_u8(&pixels, from, to)
        } else {
            let grey: Vec<u8> = pixels.iter().flat_map(|&p| [p; 3]).collect();
            let found = resize_u8(&grey, from, to);
            found.chunks_exact(3).map(|p| p[0]).collect()
        };
        assert_same(
            &found,
            &expected,
            &format!("seed {seed}: {from:?} to {to:?}"),
        );
    }
}

#[test]
fn float_resize_equals_pillow_bit_for_bit() {
    for (seed, _, from, to) in RESIZES.into_iter().filter(|r| [2, 4, 7].contains(&r.0)) {
        let noise = uniform(100 + seed, from.0 * from.1);
        let grey: Vec<f32> = noise.iter().flat_map(|&u| [u as f32; 3]).collect();
        let found = resize_f32(&grey, from, to);
        let found: Vec<f32> = found.chunks_exact(3).map(|p| p[0]).collect();
        let expected = reference_f32("resize.safetensors", &format!("f32_{seed}"));
        assert_same(
            &found,
            &expected,
            &format!("seed {seed}: {from:?} to {to:?}"),
        );
    }
}

#[test]
fn letterbox_keeps_the_aspect_ratio_and_pads_to_zero() {
    let picture = Rgb {
        width: 40,
        height: 20,
        pixels: Pixels::U8(vec![200; 40 * 20 * 3]),
    };
    for normalisation in [Normalisation::IMAGENET, Normalisation::LITE] {
        let (fitted, place) = picture.fit(16, 16, Resize::Letterbox, &normalisation);
        assert_eq!((place.x, place.y, place.width, place.height), (0, 4, 16, 8));
        let input = fitted.normalize(&normalisation);
        assert_eq!(input.len(), 16 * 16 * 3);
        for (i, value) in input.iter().enumerate() {
            let inside = (4..12).contains(&(i / (16 * 3)));
            assert_eq!(inside, *value > 0.5, "{i}: {value}");
            assert!(inside || value.abs() < 0.02, "{i}: {value}");
        }
    }
}

// ---- loading ---------------------------------------------------------------------------------

#[test]
fn sample_formats_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    save(
        &file("g8.png"),
        GrayImage::from_raw(2, 1, vec![0, 51]).unwrap(),
    );
    let g16 = ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, vec![0, 13107]).unwrap();
    save(&file("g16.png"), g16.clone());
    save(&file("g16.TIF"), g16);
    let rgba = image::RgbaImage::from_raw(1, 1, vec![10, 20, 30, 0]).unwrap();
    save(&file("rgba.webp"), rgba);
    let load = |name: &str| Rgb::load(&file(name), None).unwrap().pixels;
    assert_eq!(load("g8.png"), Pixels::U8(vec![0, 0, 0, 51, 51, 51]));
    assert_eq!(
        load("g16.png"),
        Pixels::F32(vec![0.0, 0.0, 0.0, 0.2, 0.2, 0.2])
    );
    assert_eq!(load("g16.TIF"), load("g16.png"));
    assert_eq!(load("rgba.webp"), Pixels::U8(vec![10, 20, 30]));
    assert_eq!(dimensions(&file("g8.png")).unwrap(), (2, 1));
    // 8 and 16 bit of the same shade give the same input.
    let normalized = |name: &str| {
        let picture = Rgb::load(&file(name), None).unwrap();
        picture.normalize(&Normalisation::IMAGENET)
    };
    let expected = [0.2f32 - 0.485, 0.2 - 0.456, 0.2 - 0.406];
    for name in ["g8.png", "g16.png"] {
        for (c, std) in [0.229f32, 0.224, 0.225].into_iter().enumerate() {
            assert!((normalized(name)[3 + c] - expected[c] / std).abs() < 1e-6);
        }
    }
}

#[test]
fn bad_pictures_are_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = uniform(7, 64 * 64 * 3)
        .iter()
        .map(|u| (u * 256.0) as u8)
        .collect();
    let picture = DynamicImage::from(RgbImage::from_raw(64, 64, noise).unwrap());
    for (format, name) in [
        (ImageFormat::Png, "cut.png"),
        (ImageFormat::Jpeg, "cut.jpg"),
        (ImageFormat::Tiff, "cut.tif"),
        (ImageFormat::WebP, "cut.webp"),
        (ImageFormat::Bmp, "cut.bmp"),
    ] {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        let bytes = bytes.into_inner();
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Rgb::load(&path, None).unwrap().width, 64);
        for keep in [bytes.len() - 20, bytes.len() / 2, 30] {
            std::fs::write(&path, &bytes[..keep]).unwrap();
            assert_error(Rgb::load(&path, None), &[name]);
        }
    }
    let path = folder.path().join("text.png");
    std::fs::write(&path, "not a picture at all").unwrap();
    assert_error(Rgb::load(&path, None), &["text.png", "not a picture"]);
    std::fs::write(&path, "").unwrap();
    assert_error(Rgb::load(&path, None), &["text.png", "empty"]);
    assert_error(
        Rgb::load(&folder.path().join("none.png"), None),
        &["none.png"],
    );
    assert_error(Rgb::load(folder.path(), None), &["found a folder"]);
    #[cfg(unix)]
    assert_error(
        Rgb::load(Path::new("/dev/null"), None),
        &["found a pipe or a device"],
    );
}

#[test]
fn absurd_dimensions_are_refused_before_decoding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.png");
    for side in [20_000u32, 2_000_000_000] {
        // A whole header, with the right checksum, that announces far more than the file holds.
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(side.to_be_bytes());
        bytes.extend(side.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0]);
        let checksum = crc32(&bytes[12..]);
        bytes.extend(checksum.to_be_bytes());
        bytes.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
        std::fs::write(&path, &bytes).unwrap();
        assert_error(Rgb::load(&path, None), &["huge.png"]);
        assert_error(DepthMap::load(&path, &Meaning::default()), &["huge.png"]);
        if side == 20_000 {
            assert_error(Rgb::load(&path, None), &["20000 x 20000", "16384"]);
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

// ---- masks -----------------------------------------------------------------------------------

#[test]
fn masks_keep_every_defect() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    let mut picture = GrayImage::new(10, 6);
    picture.put_pixel(7, 2, image::Luma([1]));
    save(&path, picture);
    let mask = Mask::load_for(&path, 10, 6).unwrap();
    assert_eq!(
        mask.pixels.iter().map(|&p| usize::from(p)).sum::<usize>(),
        1
    );
    assert_eq!(mask.pixels[2 * 10 + 7], 1);
    // 10 columns onto 4: pixel 7 lies in the third and, from 7.5, in the fourth.
    assert_eq!(mask.resize_any(4, 2).pixels, [0, 0, 1, 1, 0, 0, 0, 0]);
    assert_eq!(mask.resize_nearest(10, 6), mask);
    let large = mask.resize_nearest(20, 12);
    let hits: Vec<usize> = (0..240).filter(|&i| large.pixels[i] == 1).collect();
    assert_eq!(hits, [94, 95, 114, 115]);
    assert_error(
        Mask::load_for(&path, 12, 6),
        &["mask.png", "10 x 6", "12 x 6"],
    );
}

/// `PIL.ImageOps.exif_transpose` of [[1, 2, 3], [4, 5, 6]], by the tag's value.
#[test]
fn pictures_and_masks_are_turned_as_their_tag_says() {
    use image::ImageEncoder;
    use image::codecs::png::PngEncoder;
    let upright: [(&[u8], usize); 8] = [
        (&[1, 2, 3, 4, 5, 6], 3),
        (&[3, 2, 1, 6, 5, 4], 3),
        (&[6, 5, 4, 3, 2, 1], 3),
        (&[4, 5, 6, 1, 2, 3], 3),
        (&[1, 4, 2, 5, 3, 6], 2),
        (&[4, 1, 5, 2, 6, 3], 2),
        (&[6, 3, 5, 2, 4, 1], 2),
        (&[3, 6, 2, 5, 1, 4], 2),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turned.png");
    for (value, (expected, width)) in (1u8..).zip(upright) {
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([value, 0, 0, 0, 0, 0, 0, 0]);
        let mut bytes = Vec::new();
        let mut encoder = PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif).unwrap();
        let grey = [1, 2, 3, 4, 5, 6];
        encoder
            .write_image(&grey, 3, 2, image::ExtendedColorType::L8)
            .unwrap();
        std::fs::write(&path, bytes).unwrap();
        let found = Rgb::load(&path, None).unwrap();
        let first: Vec<u8> = found.to_u8().chunks_exact(3).map(|p| p[0]).collect();
        assert_eq!((&first[..], found.width), (expected, width), "{value}");
        assert_eq!(dimensions(&path).unwrap(), (width, 6 / width));
        let mask = Mask::load(&path).unwrap();
        assert_eq!((mask.width, mask.height), (width, 6 / width));
    }
}

/// Soft edges and a JPEG's noise end at half of white; a mask of numbers has no border but 0.
#[test]
fn a_mask_has_a_stated_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    for (values, expected) in [
        (vec![0, 3, 127, 128, 255], [0, 0, 0, 1, 1]),
        (vec![0, 1, 0, 2, 127], [0, 1, 0, 1, 1]),
        (vec![0, 255, 0, 255, 0], [0, 1, 0, 1, 0]),
    ] {
        save(&path, GrayImage::from_raw(5, 1, values.clone()).unwrap());
        assert_eq!(Mask::load(&path).unwrap().pixels, expected, "{values:?}");
        let wide: Vec<u16> = values.iter().map(|&v| u16::from(v) * 257).collect();
        save(
            &path,
            ImageBuffer::<image::Luma<u16>, _>::from_raw(5, 1, wide).unwrap(),
        );
        assert_eq!(
            Mask::load(&path).unwrap().pixels,
            expected,
            "{values:?} in 16 bit"
        );
    }
    let one = vec![0, 1, 0, 0, 65535];
    save(
        &path,
        ImageBuffer::<image::Luma<u16>, _>::from_raw(5, 1, one).unwrap(),
    );
    assert_eq!(Mask::load(&path).unwrap().pixels, [0, 0, 0, 0, 1]);
}

//! Pictures in TIFFs of every kind.

pub mod writer;

use std::path::Path;

use astray::data::image::dimensions;
use astray::data::{DepthMap, Mask, Meaning, Pixels, Rgb, SampleType};
use image::GrayImage;

use super::{assert_error, assert_same, uniform};
use writer::{DEFLATE, JPEG, LZW, PACKBITS, Page, ZSTD};

pub fn noise(seed: u64, n: usize, below: f64) -> Vec<u64> {
    uniform(seed, n)
        .iter()
        .map(|u| (u * below) as u64)
        .collect()
}

fn write(folder: &Path, page: &Page) -> std::path::PathBuf {
    let path = folder.join("picture.tif");
    std::fs::write(&path, page.bytes()).unwrap();
    path
}

fn load(page: &Page, white: Option<f32>) -> astray::Result<Rgb> {
    let folder = tempfile::tempdir().unwrap();
    Rgb::load(&write(folder.path(), page), white)
}

fn eight(page: &Page) -> Vec<u8> {
    let found = load(page, None).unwrap();
    assert_eq!((found.width, found.height), page.size);
    match found.pixels {
        Pixels::U8(pixels) => pixels,
        Pixels::F32(_) => panic!("more than 8 bits"),
    }
}

fn floats(page: &Page, white: Option<f32>) -> Vec<f32> {
    match load(page, white).unwrap().pixels {
        Pixels::F32(pixels) => pixels,
        Pixels::U8(_) => panic!("8 bits"),
    }
}

fn grey(values: &[u8]) -> Vec<u8> {
    values.iter().flat_map(|&v| [v; 3]).collect()
}

/// Every order of bytes, offsets, planes, strips and tiles, uncompressed and compressed.
pub fn layouts(page: &Page) -> Vec<(String, Page)> {
    let mut all = Vec::new();
    for compression in [1, LZW, DEFLATE, PACKBITS] {
        for tile in [None, Some((16, 16)), Some((64, 32))] {
            for (is_planar, is_big_endian, is_big) in [
                (false, false, false),
                (false, true, false),
                (false, false, true),
                (false, true, true),
                (page.channels > 1, false, false),
            ] {
                let name = format!(
                    "compression {compression} {tile:?} {is_planar} {is_big_endian} {is_big}"
                );
                let page = Page {
                    compression,
                    tile,
                    is_planar,
                    is_big_endian,
                    is_big,
                    rows_per_strip: 7,
                    ..page.clone()
                };
                all.push((name, page));
            }
        }
    }
    all
}

#[test]
fn every_layout_gives_the_same_pixels() {
    // The last tiles reach beyond the picture.
    for (w, h) in [(28, 20), (30, 33), (48, 16)] {
        for channels in [1, 3] {
            let samples = noise(1, w * h * channels, 256.0);
            let bytes: Vec<u8> = samples.iter().map(|&v| v as u8).collect();
            let expected = if channels == 1 { grey(&bytes) } else { bytes };
            for (name, page) in layouts(&Page::new((w, h), channels, 8, samples)) {
                assert_same(
                    &eight(&page),
                    &expected,
                    &format!("{w} x {h} x {channels} {name}"),
                );
            }
            let samples = noise(2, w * h * channels, 65536.0);
            let expected: Vec<f32> = samples
                .iter()
                .flat_map(|&v| vec![v as f32 / 65535.0; if channels == 1 { 3 } else { 1 }])
                .collect();
            for (name, page) in layouts(&Page::new((w, h), channels, 16, samples)) {
                assert_same(&floats(&page, None), &expected, &name);
            }
        }
    }
}

#[test]
fn a_depth_map_in_tiles_is_read_to_its_end() {
    let z: Vec<f32> = uniform(5, 28 * 20)
        .iter()
        .map(|&u| u as f32 + 0.5)
        .collect();
    let samples = z.iter().map(|z| u64::from(z.to_bits())).collect();
    let mut page = Page::new((28, 20), 1, 32, samples);
    page.format = 3;
    let folder = tempfile::tempdir().unwrap();
    for (name, page) in layouts(&page) {
        let path = write(folder.path(), &page);
        let map = DepthMap::load(&path, &Meaning::default()).unwrap();
        assert_same(&map.z, &z, &name);
    }
}

#[test]
fn palettes_and_few_bits_are_unpacked() {
    for bits in [1, 2, 4, 8] {
        let count = 1 << bits;
        let samples = noise(3, 19 * 11, f64::from(count));
        let page = Page::new((19, 11), 1, bits, samples.clone());
        let share = |v: u64| (v * 255 / (count as u64 - 1)) as u8;
        let plain: Vec<u8> = samples.iter().map(|&v| share(v)).collect();
        let inverse: Vec<u8> = plain.iter().map(|v| 255 - v).collect();
        // Reds, then greens, then blues; of 16 bits, or of 8.
        for high in [256, 1] {
            let colours: Vec<u64> = noise(4, 3 * count as usize, 255.0)
                .iter()
                .map(|v| (v + 1) * high)
                .collect();
            let expected: Vec<u8> = samples
                .iter()
                .flat_map(|&v| {
                    [0, 1, 2].map(|c| (colours[c * count as usize + v as usize] / high) as u8)
                })
                .collect();
            let mut page = page.clone();
            page.photometric = 3;
            page.tags = vec![(320, colours)];
            assert_same(&eight(&page), &expected, &format!("palette of {bits} bits"));
            page.tile = Some((16, 16));
            page.compression = LZW;
            assert_same(&eight(&page), &expected, &format!("tiles of {bits} bits"));
        }
        assert_same(&eight(&page), &grey(&plain), &format!("{bits} bits"));
        let page = Page {
            photometric: 0,
            ..page
        };
        assert_same(
            &eight(&page),
            &grey(&inverse),
            &format!("{bits} bits, white is 0"),
        );
    }
    let page = Page::new((2, 1), 1, 16, vec![0, 65535 - 13107]);
    let page = Page {
        photometric: 0,
        ..page
    };
    assert_eq!(floats(&page, None), [1.0, 1.0, 1.0, 0.2, 0.2, 0.2]);
}

#[test]
fn numbers_of_every_type_are_read() {
    let of = |bits: usize, format: u64, samples: Vec<u64>| {
        let mut page = Page::new((2, 1), 1, bits, samples);
        page.format = format;
        page
    };
    let single = |v: f32| u64::from(v.to_bits());
    let half = of(16, 3, vec![0x3800, 0x3c00]);
    let float = of(32, 3, vec![single(0.5), single(1.0)]);
    let double = of(64, 3, vec![0.5f64.to_bits(), 1.0f64.to_bits()]);
    for page in [half, float.clone(), double] {
        assert_eq!(floats(&page, None), [0.5, 0.5, 0.5, 1.0, 1.0, 1.0]);
        assert_eq!(floats(&page, Some(2.0)), [0.25, 0.25, 0.25, 0.5, 0.5, 0.5]);
    }
    let white = Page {
        photometric: 0,
        ..float
    };
    assert_eq!(floats(&white, None), [0.5, 0.5, 0.5, 0.0, 0.0, 0.0]);
    // Whole numbers have a white that must be known.
    for page in [of(32, 1, vec![1023, 4092]), of(16, 2, vec![1023, 4092])] {
        assert_eq!(floats(&page, Some(4092.0))[3..], [1.0; 3]);
        assert_eq!(floats(&page, Some(4092.0))[0], 0.25);
        assert_error(
            load(&page, None),
            &["up to 4092", "input.white", "expected 0 to 1"],
        );
    }
    assert_eq!(floats(&of(16, 1, vec![1023, 4095]), Some(4095.0))[5], 1.0);
    let colours = [0.5, 0.25, 0.125].map(single).to_vec();
    let mut page = Page::new((1, 1), 3, 32, colours);
    page.format = 3;
    page.is_planar = true;
    assert_eq!(floats(&page, None), [0.5, 0.25, 0.125]);
    page.samples[1] = single(f32::NAN);
    assert_error(load(&page, None), &["picture.tif", "NaN"]);
}

#[test]
fn sample_types_are_read_from_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let of = |page: &Page| SampleType::of(&write(folder.path(), page)).unwrap();
    let page = Page::new((2, 1), 1, 8, vec![0, 1]);
    assert_eq!(of(&page), SampleType::U8);
    assert_eq!(
        of(&Page {
            bits: 16,
            ..page.clone()
        }),
        SampleType::U16
    );
    assert_eq!(
        of(&Page {
            bits: 32,
            format: 3,
            ..page
        }),
        SampleType::F32
    );
    let path = folder.path().join("grey.png");
    GrayImage::new(1, 1).save(&path).unwrap();
    assert_eq!(SampleType::of(&path).unwrap(), SampleType::U8);
    image::DynamicImage::new_rgb16(1, 1).save(&path).unwrap();
    assert_eq!(SampleType::of(&path).unwrap(), SampleType::U16);
}

/// Pillow's `convert("RGB")`; of YCbCr to the nearest instead of the lower number.
#[test]
fn cmyk_and_ycbcr_become_rgb() {
    let mut page = Page::new((2, 1), 4, 8, vec![10, 100, 200, 30, 0, 0, 0, 0]);
    page.photometric = 5;
    assert_eq!(eight(&page), [216, 137, 49, 255, 255, 255]);
    page.is_planar = true;
    assert_eq!(eight(&page), [216, 137, 49, 255, 255, 255]);
    let mut page = Page::new((2, 1), 3, 8, vec![100, 90, 200, 255, 128, 128]);
    page.photometric = 6;
    page.tags = vec![(530, vec![1, 1])];
    assert_eq!(eight(&page), [201, 62, 33, 255, 255, 255]);
    page.tags = vec![(530, vec![2, 2])];
    assert_error(
        load(&page, None),
        &["picture.tif", "fewer colours than pixels", "magick"],
    );
}

#[test]
fn alpha_is_dropped_and_further_channels_are_refused() {
    for (channels, photometric, expected) in [
        (2, 1, [7, 7, 7]),
        (4, 2, [7, 8, 9]),
        (5, 5, [242, 241, 240]),
    ] {
        let samples = [7, 8, 9, 6, 5];
        let samples = match photometric {
            5 => vec![7, 8, 9, 6, 5],
            _ => samples[..channels].to_vec(),
        };
        let mut page = Page::new((1, 1), channels, 8, samples);
        page.photometric = photometric;
        for is_planar in [false, true] {
            page.is_planar = is_planar;
            page.tags = vec![(338, vec![2])];
            assert_eq!(eight(&page), expected, "{channels} channels");
        }
    }
    let mut page = Page::new((1, 1), 5, 8, vec![1; 5]);
    page.photometric = 1;
    page.tags = vec![(338, vec![0; 4])];
    assert_error(load(&page, None), &["picture.tif", "5 channels", "magick"]);
}

#[test]
fn what_is_not_read_is_named() {
    let page = Page::new((4, 4), 3, 8, vec![0; 48]);
    let with = |tag: u64, value: u64| Page {
        tags: vec![(tag, vec![value])],
        ..page.clone()
    };
    let of = |photometric: u64| Page {
        photometric,
        ..page.clone()
    };
    let packed = Page::new((4, 4), 1, 12, vec![0; 16]);
    for (page, words) in [
        (
            Page {
                compression: ZSTD,
                ..page.clone()
            },
            ["ZSTD", "magick"],
        ),
        (of(8), ["Lab", "magick"]),
        (of(32803), ["a sensor's raw numbers", "magick"]),
        (of(77), ["photometric 77", "magick"]),
        (with(254, 1), ["thumbnail", "dcraw"]),
        (with(50706, 1), ["thumbnail", "dcraw"]),
        (with(266, 2), ["FillOrder 2", "magick"]),
        (packed, ["Gray(12)", "magick"]),
    ] {
        assert_error(load(&page, None), &["picture.tif", words[0], words[1]]);
    }
}

#[test]
fn cut_and_absurd_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.tif");
    let mut pages = layouts(&Page::new((28, 20), 1, 8, noise(6, 28 * 20, 256.0)));
    let jpeg = Page {
        compression: JPEG,
        ..pages[0].1.clone()
    };
    pages.push(("JPEG".into(), jpeg));
    for (name, page) in &pages {
        let bytes = page.bytes();
        for keep in [bytes.len() - 20, bytes.len() / 2, 9] {
            std::fs::write(&path, &bytes[..keep]).unwrap();
            assert_error(Rgb::load(&path, None), &["picture.tif"]);
        }
        // The directory is there, and the numbers are those of a file that ends before them.
        let mut page = page.clone();
        page.tags = match page.tile {
            Some(_) => vec![(324, vec![1 << 24; page_chunks(&page)])],
            None => vec![(273, vec![1 << 24; page_chunks(&page)])],
        };
        std::fs::write(&path, page.bytes()).unwrap();
        assert!(Rgb::load(&path, None).is_err(), "{name}");
    }
    // A file of no more bytes than its header.
    let empty = Page::new((1, 1), 1, 8, vec![0]);
    let sized = |w: u64, h: u64, bits: usize| Page {
        bits,
        tags: vec![(256, vec![w]), (257, vec![h]), (278, vec![h])],
        ..empty.clone()
    };
    let path = write(folder.path(), &sized(20_000, 20_000, 8));
    assert_error(Rgb::load(&path, None), &["20000 x 20000", "16384"]);
    assert_error(
        DepthMap::load(&path, &Meaning::default()),
        &["20000 x 20000", "16384"],
    );
    let path = write(folder.path(), &sized(16_000, 16_000, 64));
    assert_error(Rgb::load(&path, None), &["picture.tif", "the limit is"]);
    assert_error(
        DepthMap::load(&path, &Meaning::default()),
        &["the limit is"],
    );
}

/// How many strips or tiles the page has.
fn page_chunks(page: &Page) -> usize {
    let (w, h) = page.tile.unwrap_or((page.size.0, page.rows_per_strip));
    page.size.0.div_ceil(w) * page.size.1.div_ceil(h)
}

#[test]
fn jpegs_in_tiffs_are_read() {
    let smooth: Vec<u64> = (0..28 * 20)
        .map(|i| (i % 28 * 5 + i / 28 * 3) as u64)
        .collect();
    for tile in [None, Some((16, 16))] {
        let mut page = Page::new((28, 20), 1, 8, smooth.clone());
        page.compression = JPEG;
        page.tile = tile;
        page.rows_per_strip = 8;
        let found = eight(&page);
        // Beside the padding of tiles, which is black, a JPEG is less sure.
        for (i, (found, expected)) in found.iter().step_by(3).zip(&smooth).enumerate() {
            let is_sure = tile.is_none() || (i % 28 < 24 && i / 28 < 16);
            let far = (i64::from(*found) - *expected as i64).abs();
            assert!(
                far < if is_sure { 12 } else { 60 },
                "{tile:?} {i}: {found} {expected}"
            );
        }
    }
}

#[test]
fn turned_tiffs_masks_and_sizes() {
    let mut page = Page::new((3, 2), 1, 8, vec![1, 2, 3, 4, 5, 6]);
    page.tags = vec![(274, vec![6])];
    page.is_big = true;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &page);
    let found = Rgb::load(&path, None).unwrap();
    assert_eq!((found.width, found.height), (2, 3));
    assert_eq!(found.to_u8(), grey(&[4, 1, 5, 2, 6, 3]));
    assert_eq!(dimensions(&path).unwrap(), (2, 3));
    // Numbers of a palette whose first colour is black.
    page.photometric = 3;
    page.samples = vec![0, 1, 0, 0, 2, 0];
    let mut colours = vec![0; 3 * 256];
    colours[1] = 65535;
    colours[256 + 2] = 65535;
    page.tags.push((320, colours));
    let mask = Mask::load(&write(folder.path(), &page)).unwrap();
    assert_eq!(mask.pixels, [0, 0, 1, 1, 0, 0]);
}

//! TIFFs whose bytes were changed: read or refused, and never a panic. The reader changes tags itself.

use super::tiffs::writer::{JPEG, Page};
use super::tiffs::{layouts, noise};
use super::uniform;
use astray::data::image::dimensions;
use astray::data::{DepthMap, Mask, Meaning, Rgb, SampleType};

/// Changed files of each kind.
const CHANGED: usize = 60;
/// What damage likes to be: the ends of types, signs, small counts.
const BYTES: [u8; 12] = [0, 1, 2, 3, 5, 8, 12, 16, 64, 127, 128, 255];

fn kinds() -> Vec<Page> {
    let (w, h) = (19, 11);
    let mut kinds = Vec::new();
    for bits in [1, 4, 8, 16] {
        let count = 1 << bits;
        let grey = Page::new((w, h), 1, bits, noise(1, w * h, f64::from(count)));
        let mut palette = grey.clone();
        palette.photometric = 3;
        palette.tags = vec![(320, noise(2, 3 * count as usize, 65536.0))];
        kinds.extend([grey, palette]);
    }
    for (channels, photometric) in [(3, 2), (4, 2), (4, 5), (3, 6)] {
        let mut page = Page::new((w, h), channels, 8, noise(3, w * h * channels, 256.0));
        page.photometric = photometric;
        kinds.push(page);
    }
    for (channels, bits) in [(1, 32), (3, 32), (1, 64)] {
        let mut page = Page::new((w, h), channels, bits, vec![0; w * h * channels]);
        page.format = 3;
        kinds.push(page);
    }
    let mut jpeg = Page::new((16, 16), 1, 8, noise(4, 256, 256.0));
    jpeg.compression = JPEG;
    kinds.push(jpeg);
    kinds
}

#[test]
fn changed_bytes_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.tif");
    let mut seed = 0;
    let (mut read, mut refused) = (0, 0);
    for kind in kinds() {
        let pages = match kind.compression {
            JPEG => vec![kind],
            _ => layouts(&kind).into_iter().map(|(_, page)| page).collect(),
        };
        let mut changed = 0;
        for page in pages.iter().cycle() {
            changed += 1;
            if changed > CHANGED {
                break;
            }
            seed += 1;
            let mut bytes = page.bytes();
            let random = uniform(seed, 9);
            // Mostly tags, which lie behind the numbers.
            let length = bytes.len() as f64;
            for (at, to) in [(0, 1), (2, 3), (4, 5)]
                .into_iter()
                .take(1 + seed as usize % 3)
            {
                let from = if random[6] < 0.8 { 0.5 } else { 0.0 };
                let place = ((from + random[at] * (1.0 - from)) * length) as usize;
                bytes[place] = BYTES[(random[to] * BYTES.len() as f64) as usize];
            }
            std::fs::write(&path, &bytes).unwrap();
            let _ = dimensions(&path);
            let _ = SampleType::of(&path);
            let _ = Mask::load(&path);
            let _ = DepthMap::load(&path, &Meaning::default());
            match Rgb::load(&path, Some(255.0)) {
                Ok(_) => read += 1,
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("picture.tif"), "{error}");
                    refused += 1;
                }
            }
        }
    }
    // Or else the damage was not what this is about.
    assert!(
        read > 200 && refused > 200,
        "{read} read, {refused} refused"
    );
}

/// Bits that no type has, and none.
#[test]
fn absurd_bits_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.tif");
    for photometric in [0, 1, 2, 3, 5, 6] {
        for bits in [0u64, 3, 7, 9, 12, 15, 17, 33, 63, 65, 255, 65535] {
            for tile in [None, Some((16, 16))] {
                let mut page = Page::new((19, 11), 1, 16, noise(bits, 19 * 11, 65536.0));
                page.photometric = photometric;
                page.tile = tile;
                let colours = noise(7, 3 << bits.min(13), 65536.0);
                page.tags = vec![(258, vec![bits]), (320, colours)];
                std::fs::write(&path, page.bytes()).unwrap();
                let _ = (Rgb::load(&path, Some(255.0)), SampleType::of(&path));
                let _ = (
                    Mask::load(&path),
                    DepthMap::load(&path, &Meaning::default()),
                );
            }
        }
    }
}

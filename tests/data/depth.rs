//! Depth maps: preprocessing against numpy and scipy, files, bad input.

use std::path::Path;

use astray::data::depth::{dilate, fill_holes};
use astray::data::{
    Background, DepthKind, DepthMap, DepthMask, DepthOptions, Meaning, Resize, preprocess,
};
use image::{GrayImage, ImageBuffer};

use super::{assert_error, reference_f32, reference_u8, save, uniform};

fn scene(seed: u64, w: usize, h: usize) -> DepthMap {
    let (u, v) = (uniform(seed, w * h), uniform(seed + 1000, w * h));
    let z = (0..w * h).map(|i| {
        let (x, y, u, v) = (i % w, i / w, u[i], v[i]);
        let mut z = 0.5 + 0.0002 * x as f64 - 0.0001 * y as f64 + (v - 0.5) * 0.001;
        if x > w / 3 && x < 2 * w / 3 && y > h / 4 && y < 3 * h / 4 {
            z -= 0.02 + 0.01 * v;
        }
        let block = (h / 2..h / 2 + 10).contains(&y) && (w / 2..w / 2 + 12).contains(&x);
        let corner = x < 3 && y < 3 && seed % 2 == 1;
        match u {
            _ if block || corner => 0.0,
            u if u < 0.15 => 0.0,
            u if u < 0.16 => f32::NAN,
            u if u < 0.17 => -1.0,
            u if u < 0.18 => f32::INFINITY,
            _ => z as f32,
        }
    });
    DepthMap::new(w, h, z.collect()).unwrap()
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{what}[{i}]: {f}, expected {e}");
    }
}

#[test]
fn depth_equals_numpy_and_scipy() {
    for (seed, (w, h), size, map_size, fill_passes, foreground_distance, dilation) in [
        (21, (96, 80), 48, 6, 3, 0.007, 8),
        (22, (50, 70), 64, 8, 1, 0.007, 5),
        (23, (120, 120), 48, 12, 2, 0.010, 2),
        (24, (60, 60), 32, 8, 0, 0.007, 1),
    ] {
        let mut options = DepthOptions {
            size,
            map_size,
            fill_passes,
            foreground_distance,
            dilation,
            mask: DepthMask::Soft,
            ..DepthOptions::default()
        };
        let map = scene(seed, w, h);
        let path = Path::new("scene");
        let found = preprocess(&map, &options, path).unwrap();
        let file = "depth.safetensors";
        let depth = reference_f32(file, &format!("depth_{seed}"));
        let soft = reference_f32(file, &format!("soft_{seed}"));
        assert!(
            depth.iter().any(|d| d.abs() > 0.1),
            "the reference shows a part"
        );
        assert_close("depth", &found.depth, &depth, 1e-5);
        assert_close("soft mask", &found.mask, &soft, 1e-5);
        let foreground = reference_u8(file, &format!("foreground_{seed}"));
        assert_eq!(found.foreground, foreground, "seed {seed}");
        options.mask = DepthMask::Binary;
        let binary: Vec<f32> = soft.iter().map(|&m| f32::from(m > 0.0)).collect();
        assert_eq!(preprocess(&map, &options, path).unwrap().mask, binary);
    }
}

#[test]
fn dilation_equals_scipy_for_even_and_odd_squares() {
    for (seed, size, side) in [
        (31, 24, 8),
        (32, 24, 5),
        (33, 17, 4),
        (34, 12, 1),
        (35, 9, 20),
    ] {
        let noise = uniform(seed, size * size);
        let mask: Vec<u8> = noise.iter().map(|&u| u8::from(u < 0.02)).collect();
        let expected = reference_u8("depth.safetensors", &format!("dilated_{seed}"));
        assert_eq!(dilate(&mask, size, side), expected, "seed {seed}");
    }
    // The example of the specification, section 3.7.
    let rows_of = |row: usize| {
        let mut mask = vec![0; 192 * 192];
        mask[row * 192 + 100] = 1;
        let out = dilate(&mask, 192, 8);
        (0..192)
            .filter(|y| out[y * 192 + 100] == 1)
            .collect::<Vec<_>>()
    };
    assert_eq!(rows_of(8), (4..=11).collect::<Vec<_>>());
    assert_eq!(rows_of(0), (0..=3).collect::<Vec<_>>());
}

#[test]
fn holes_are_filled_from_the_pass_before() {
    // A valid column on the left reaches one pixel further with each pass, not more.
    let mut z = vec![0.0; 5 * 4];
    (0..4).for_each(|y| z[y * 5] = 2.0);
    for pass in 1..=4 {
        fill_holes(&mut z, 5, 1);
        for (i, z) in z.iter().enumerate() {
            assert_eq!(
                *z,
                if i % 5 <= pass { 2.0 } else { 0.0 },
                "pass {pass}, {i}"
            );
        }
    }
}

#[test]
fn a_stretched_and_a_letterboxed_map_cover_their_place() {
    let z: Vec<f32> = (0..64 * 32).map(|i| 0.5 + 0.001 * (i % 7) as f32).collect();
    let map = DepthMap::new(64, 32, z).unwrap();
    let mut options = DepthOptions {
        background: Background::None,
        size: 32,
        map_size: 4,
        dilation: 0,
        ..DepthOptions::default()
    };
    let stretched = preprocess(&map, &options, Path::new("map")).unwrap();
    assert!(stretched.mask.iter().all(|&m| m == 1.0));
    options.resize = Resize::Letterbox;
    let boxed = preprocess(&map, &options, Path::new("map")).unwrap();
    assert_eq!(
        boxed.mask,
        [[0.0; 4], [1.0; 4], [1.0; 4], [0.0; 4]].concat()
    );
    assert!(boxed.depth[..8 * 32].iter().all(|&d| d == 0.0));
}

#[test]
fn bad_depth_is_an_error() {
    let options = DepthOptions::default();
    let path = Path::new("part_7.tiff");
    let holes = DepthMap::new(40, 40, vec![f32::NAN; 1600]).unwrap();
    assert_error(
        preprocess(&holes, &options, path),
        &["part_7.tiff", "only holes"],
    );
    let quarter = |i: usize| i % 40 >= 20 && i / 40 >= 20;
    let z = (0..1600).map(|i| if quarter(i) { 0.0 } else { 0.5 });
    let map = DepthMap::new(40, 40, z.collect()).unwrap();
    assert_error(
        preprocess(&map, &options, path),
        &["part_7.tiff", "lower right"],
    );
    assert_error(DepthMap::new(3, 3, vec![1.0; 8]), &["3 x 3", "8"]);
    let no_unit = Meaning {
        scale: 0.0,
        ..Meaning::default()
    };
    assert_error(
        DepthMap::load(path, &no_unit),
        &["unit of depth", "0 metres"],
    );
    let odd = DepthOptions {
        map_size: 7,
        ..options
    };
    assert_error(preprocess(&holes, &odd, path), &["192", "7"]);
    // A plane with nothing on it is no error: an empty scene has an empty mask.
    let flat = DepthMap::new(40, 40, vec![0.5; 1600]).unwrap();
    let empty = preprocess(&flat, &DepthOptions::default(), path).unwrap();
    assert!(empty.mask.iter().chain(&empty.depth).all(|&v| v == 0.0));
}

#[test]
fn depth_files_load_in_metres() {
    use tiff::encoder::{TiffEncoder, colortype};
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let write = |name: &str| TiffEncoder::new(std::fs::File::create(file(name)).unwrap()).unwrap();
    let xyz = [1.0, 2.0, 0.25, 1.0, 2.0, f32::NAN];
    write("xyz.tiff")
        .write_image::<colortype::RGB32Float>(2, 1, &xyz)
        .unwrap();
    write("z.tiff")
        .write_image::<colortype::Gray32Float>(2, 1, &[0.25, 0.0])
        .unwrap();
    write("u16.tiff")
        .write_image::<colortype::Gray16>(2, 1, &[250, 0])
        .unwrap();
    write("u8.tiff")
        .write_image::<colortype::Gray8>(2, 1, &[250, 0])
        .unwrap();
    let png = ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, vec![250, 0]).unwrap();
    save(&file("u16.png"), png);
    save(&file("u8.png"), GrayImage::new(2, 1));
    for name in ["xyz.tiff", "z.tiff", "u16.tiff", "u16.png"] {
        let map = DepthMap::load(&file(name), &Meaning::default()).unwrap();
        assert_eq!(
            (map.width, map.height, map.z),
            (2, 1, vec![0.25, 0.0]),
            "{name}"
        );
    }
    for name in ["u8.tiff", "u8.png"] {
        assert_error(
            DepthMap::load(&file(name), &Meaning::default()),
            &[name, "16 bits"],
        );
    }
    let bytes = std::fs::read(file("xyz.tiff")).unwrap();
    for keep in [4, bytes.len() / 2, bytes.len() - 4] {
        std::fs::write(file("cut.tiff"), &bytes[..keep]).unwrap();
        assert_error(
            DepthMap::load(&file("cut.tiff"), &Meaning::default()),
            &["cut.tiff"],
        );
    }
}

fn tiff(path: &std::path::Path, width: u32, pages: &[&[f32]]) {
    use tiff::encoder::{TiffEncoder, colortype::Gray32Float};
    let mut file = TiffEncoder::new(std::fs::File::create(path).unwrap()).unwrap();
    for page in pages {
        let height = page.len() as u32 / width;
        file.write_image::<Gray32Float>(width, height, page)
            .unwrap();
    }
}

#[test]
fn what_was_not_measured_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("z.tiff");
    tiff(
        &path,
        4,
        &[&[
            0.5,
            f32::MAX,
            -1.0,
            0.25,
            f32::INFINITY,
            f32::NAN,
            0.0,
            f32::MIN,
            9.0,
            1.0,
            2.0,
            3.0,
        ]],
    );
    let meaning = Meaning {
        invalid: vec![9.0, -1.0],
        ..Meaning::default()
    };
    let z = DepthMap::load(&path, &meaning).unwrap().z;
    assert_eq!(
        z,
        [0.5, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]
    );

    let path = folder.path().join("counts.png");
    let counts = vec![65535, 250, 65534, 0];
    let png = ImageBuffer::<image::Luma<u16>, _>::from_raw(4, 1, counts).unwrap();
    save(&path, png);
    let named = Meaning {
        invalid: vec![65534.0],
        ..Meaning::default()
    };
    assert_eq!(
        DepthMap::load(&path, &named).unwrap().z,
        [0.0, 0.25, 0.0, 0.0]
    );
    assert_eq!(
        DepthMap::load(&path, &Meaning::default()).unwrap().z[2],
        65.534
    );
}

#[test]
fn numbers_that_are_no_distances_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("z.tiff");
    let load = |meaning: &Meaning| DepthMap::load(&path, meaning);
    tiff(&path, 2, &[&[0.5, 1e38, 0.5, 0.5]]);
    assert_error(
        load(&Meaning::default()),
        &["z.tiff", "depth.invalid", "depth.float_unit_mm"],
    );
    // In millimetres.
    tiff(&path, 2, &[&[250.0, 500.0, 0.0, 1250.0]]);
    let millimetres = Meaning {
        float_scale: 0.001,
        ..Meaning::default()
    };
    assert_eq!(load(&millimetres).unwrap().z, [0.25, 0.5, 0.0, 1.25]);
    // Heights of a surface at 0 with a dent of 2 mm.
    tiff(&path, 2, &[&[0.0, -0.002, 0.001, f32::NAN]]);
    assert_error(
        load(&Meaning::default()),
        &["z.tiff", "1 of 2", "depth.kind = \"height\""],
    );
    let heights = Meaning {
        kind: DepthKind::Height,
        ..Meaning::default()
    };
    let z = load(&heights).unwrap().z;
    assert_eq!(z[3], 0.0);
    for (z, expected) in z.iter().zip([0.0, 0.002, -0.001]) {
        assert!((z - 10.0 - expected).abs() < 1e-6, "{z} {expected}");
    }
}

#[test]
fn three_pages_are_x_y_and_z() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages.tiff");
    let (x, z) = ([9.0; 4], [0.25, 0.5, 0.75, 1.0]);
    tiff(&path, 2, &[&x, &x, &z]);
    assert_eq!(DepthMap::load(&path, &Meaning::default()).unwrap().z, z);
    for pages in [&[&z[..], &z][..], &[&z, &z, &z, &z], &[&z, &z, &z[..2]]] {
        tiff(&path, 2, pages);
        assert_error(
            DepthMap::load(&path, &Meaning::default()),
            &["pages.tiff", "page"],
        );
    }
}

/// As `image` turns a picture, which turns as Pillow does (tests/data.rs).
#[test]
fn a_turned_depth_map_is_turned_back() {
    use tiff::encoder::{TiffEncoder, colortype::Gray32Float};
    use tiff::tags::Tag;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turned.tiff");
    let z: Vec<f32> = (1..=6).map(|i| i as f32).collect();
    for value in 1..=8u8 {
        let mut file = TiffEncoder::new(std::fs::File::create(&path).unwrap()).unwrap();
        let mut page = file.new_image::<Gray32Float>(3, 2).unwrap();
        page.encoder()
            .write_tag(Tag::Orientation, u16::from(value))
            .unwrap();
        page.write_data(&z).unwrap();
        let grey = image::GrayImage::from_raw(3, 2, (1..=6).collect()).unwrap();
        let mut expected = image::DynamicImage::from(grey);
        expected.apply_orientation(image::metadata::Orientation::from_exif(value).unwrap());
        let found = DepthMap::load(&path, &Meaning::default()).unwrap();
        let size = (found.width, found.height);
        assert_eq!(
            size,
            (expected.width() as usize, expected.height() as usize)
        );
        assert_eq!(DepthMap::dimensions(&path).unwrap(), size);
        let expected: Vec<f32> = expected.as_bytes().iter().map(|&v| f32::from(v)).collect();
        assert_eq!(found.z, expected, "{value}");
    }
}

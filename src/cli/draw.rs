//! Drawn parts for the demo: a flange seen from above by a camera and a depth sensor, good or with
//! one of six defects. Written in the layout of MVTec 3D-AD; the same seed gives the same bytes.

mod defect;
mod part;
mod random;
mod render;

pub use defect::DefectKind;
pub use render::{SIDE, Sample};

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageEncoder, codecs::png};
use rayon::prelude::*;
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype::RGB32Float};

use crate::files::write_atomic;
use crate::{Error, Result};
use defect::Defect;
use part::Pose;
use random::Random;

/// Draws a data set into `dir`: `train/good`, `validation/good` (a fifth of `train_count`, at least
/// two), `test/good` and one test folder for each [`DefectKind`], each with `rgb/*.png`,
/// `xyz/*.tiff` (x, y, z in metres, f32; 0 where the sensor saw nothing) and, for the test,
/// `gt/*.png` (255 where defective). `done` is called once per sample, from several threads.
///
/// # Errors
/// A folder that already holds something (old parts would mix with new ones), or failed writing.
pub fn draw_dataset(
    dir: &Path,
    seed: u64,
    train_count: usize,
    test_good: usize,
    per_defect: usize,
    done: impl Fn() + Sync,
) -> Result<()> {
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        let message =
            "expected an empty or new folder for the drawn parts; remove it or name another";
        return Err(Error::file(dir, message));
    }
    let jobs = jobs(dir, train_count, test_good, per_defect);
    for job in &jobs {
        for kind in ["rgb", "xyz", "gt"] {
            if kind != "gt" || job.with_mask {
                let folder = job.folder.join(kind);
                std::fs::create_dir_all(&folder).map_err(|e| Error::file(&folder, e))?;
            }
        }
    }
    jobs.par_iter().enumerate().try_for_each(|(stream, job)| {
        let sample = draw_sample(seed, stream as u64, job.defect);
        let path = |kind: &str, extension: &str| {
            let name = format!("{:03}.{extension}", job.index);
            job.folder.join(kind).join(name)
        };
        write_png(&path("rgb", "png"), &sample.rgb, ExtendedColorType::Rgb8)?;
        write_xyz(&path("xyz", "tiff"), &sample.xyz)?;
        if job.with_mask {
            write_png(&path("gt", "png"), &sample.mask, ExtendedColorType::L8)?;
        }
        done();
        Ok(())
    })
}

/// A folder with this many good parts to learn from, which is removed when dropped.
///
/// # Errors
/// Failed writing.
pub fn drawn_parts(count: usize) -> Result<tempfile::TempDir> {
    let folder =
        tempfile::tempdir().map_err(|e| Error::failed(format!("temporary folder: {e}")))?;
    draw_dataset(folder.path(), 0, count, 0, 0, || ())?;
    Ok(folder)
}

/// How many samples [`draw_dataset`] draws with these counts.
pub fn sample_count(train_count: usize, test_good: usize, per_defect: usize) -> usize {
    jobs(Path::new(""), train_count, test_good, per_defect).len()
}

/// One part. `stream` tells the samples of one data set apart.
pub fn draw_sample(seed: u64, stream: u64, defect: Option<DefectKind>) -> Sample {
    let mut random = Random::new(seed, stream);
    let pose = Pose::random(&mut random);
    let defect = defect.map(|kind| Defect::random(kind, &mut random));
    render::render(&pose, defect.as_ref(), &mut random)
}

struct Job {
    folder: PathBuf,
    index: usize,
    defect: Option<DefectKind>,
    with_mask: bool,
}

fn jobs(dir: &Path, train_count: usize, test_good: usize, per_defect: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut add = |folder: PathBuf, defect, with_mask, count| {
        jobs.extend((0..count).map(|index| Job {
            folder: folder.clone(),
            index,
            defect,
            with_mask,
        }));
    };
    let validation = (train_count / 5).max(2);
    add(dir.join("train/good"), None, false, train_count);
    add(dir.join("validation/good"), None, false, validation);
    add(dir.join("test/good"), None, true, test_good);
    for kind in DefectKind::ALL {
        let folder = dir.join("test").join(kind.name());
        add(folder, Some(kind), true, per_defect);
    }
    jobs
}

fn write_png(path: &Path, pixels: &[u8], colour: ExtendedColorType) -> Result<()> {
    let mut bytes = Vec::new();
    png::PngEncoder::new(&mut bytes)
        .write_image(pixels, SIDE as u32, SIDE as u32, colour)
        .map_err(|e| Error::file(path, e))?;
    write_atomic(path, &bytes)
}

fn write_xyz(path: &Path, xyz: &[f32]) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    TiffEncoder::new(&mut bytes)
        .map(|encoder| encoder.with_compression(Compression::Deflate(DeflateLevel::Fast)))
        .and_then(|mut encoder| encoder.write_image::<RGB32Float>(SIDE as u32, SIDE as u32, xyz))
        .map_err(|e| Error::file(path, e))?;
    write_atomic(path, bytes.get_ref())
}

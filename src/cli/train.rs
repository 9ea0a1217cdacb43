//! `astray train`: a model from a folder of good parts.

use super::args::Train;
use super::{backbone, device, job, output};
use crate::data::{Cache, Dataset};
use crate::detector::config::Config;
use crate::detector::{Detector, Extractor, Losses, Progress, train};
use crate::tensor::Device;
use crate::weights::Source;
use crate::{Error, Result};
use std::path::Path;

/// Good parts are called defective this rarely by the first threshold.
const QUANTILE: f64 = 0.99;

pub fn run(args: &Train) -> Result<u8> {
    let device = device::open(&args.device, args.precision.value, false)?;
    run_on(args, &device, &mut super::print)?;
    Ok(0)
}

/// Hands each line to `tell`.
pub fn run_on(
    args: &Train,
    device: &Device,
    tell: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let config = Config::load(
        args.config.preset.as_deref(),
        args.config.config.as_deref(),
        &args.settings(),
    )?;
    let datasets = job::datasets(&args.data, &args.category.names)?;
    let folder = |dataset: &Dataset| match datasets.len() {
        1 => args.out.clone(),
        _ => args.out.join(&dataset.name),
    };
    for dataset in &datasets {
        job::check_modality(dataset, config.input.modality)?;
        output::check_file("--out", &folder(dataset).join(job::MODEL))?;
    }
    let source = Source::of(args.weights.as_deref());
    let cache = args.cache.folder.as_deref().map(Cache::open).transpose()?;
    for dataset in &datasets {
        let (mut detector, _) = fit(
            &config,
            device,
            dataset,
            &source,
            cache.as_ref(),
            args.device.max_memory,
        )?;
        let folder = folder(dataset);
        save(&mut detector, &folder)?;
        let threshold = detector.threshold.unwrap_or(f32::NAN); // `fit` has set it
        tell(&format!(
            "{}: model {}, threshold {threshold:.4}, backbone {}",
            dataset.name,
            folder.join(job::MODEL).display(),
            backbone::named(&detector.extractor)
        ))?;
        if dataset.split(config.train.hold_out).1.is_empty() {
            tell(
                "note: the threshold comes from the parts that were trained on, which score lower than \
                 new ones: set it with `astray calibrate` and other good parts, or keep some back with \
                 --set train.hold_out=0.1",
            )?;
        }
    }
    Ok(())
}

/// Writes the model into a folder, which is made, and removed again where nothing could be written.
pub fn save(detector: &mut Detector, folder: &Path) -> Result<()> {
    let is_new = !folder.exists();
    std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
    let saved = detector.save(&folder.join(job::MODEL));
    if saved.is_err() && is_new {
        let _ = std::fs::remove_dir(folder); // the error that matters is the first one
    }
    saved
}

/// Trains on a category and sets the threshold from the good parts that were kept back, or, where
/// there are none, from the training parts.
pub fn fit(
    config: &Config,
    device: &Device,
    dataset: &Dataset,
    source: &Source,
    cache: Option<&Cache>,
    max_memory: Option<u64>,
) -> Result<(Detector, Losses)> {
    for (train, test) in dataset.overlap()? {
        tracing::warn!(
            "{} is also a training part: {}",
            test.display(),
            train.display()
        );
    }
    let (good, held_out) = dataset.split(config.train.hold_out);
    let pictures: Vec<&Path> = good.iter().filter_map(|s| s.rgb.as_deref()).collect();
    let mut extractor = Extractor::new(config, device, source, &pictures)?;
    if let Some(line) = backbone::line(&extractor) {
        eprintln!("{line}");
    }
    if let Some(limit) = max_memory
        && let Some(batch) = extractor.limit_memory(good.len() + held_out.len(), limit)?
    {
        eprintln!(
            "note: --max-memory: batches of {batch} parts instead of {}; the model learns a little differently",
            config.train.batch
        );
    }
    let parts = job::features(&extractor, &good, cache, "features")?;
    // Before the training: a damaged file must not cost what was learned.
    let held_out = job::features(&extractor, &held_out, cache, "held out")?;
    let pixels = parts
        .iter()
        .flat_map(|part| &part.mask)
        .filter(|m| **m > 0.0);
    let (pixels, channels) = (pixels.count(), extractor.channels());
    if config.teacher.whitening && pixels < channels {
        tracing::warn!(
            "the good parts have {pixels} places for {channels} channels: what varies is known in no more directions; \
             teacher.shrinkage carries the others"
        );
    }
    let epochs = config.train.teacher_epochs + config.train.student_epochs;
    let bar = job::bar("train", epochs);
    let mut tell = |progress: Progress| {
        bar.inc(1);
        bar.set_message(format!(
            "{} {}/{} loss {:.4}",
            progress.stage, progress.epoch, progress.epochs, progress.loss
        ));
    };
    let (mut detector, losses) = train(extractor, &parts, &mut tell)?;
    bar.finish();
    let good = match held_out.is_empty() {
        true => &parts,
        false => &held_out,
    };
    detector.calibrate(good, QUANTILE)?;
    Ok((detector, losses))
}

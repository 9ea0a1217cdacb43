//! `astray train`: a model from a folder of good parts.

use super::args::Train;
use super::progress::Progress;
use super::{backbone, device, job, output, threshold};
use crate::data::check::quick;
use crate::data::{Cache, Dataset, Sample};
use crate::detector::Progress as Epoch;
use crate::detector::config::Config;
use crate::detector::{
    Calibration, Detector, Extractor, Learned, Losses, Origin, Record, folds, train,
};
use crate::tensor::Device;
use crate::weights::Source;
use crate::{Error, Result};
use std::path::Path;

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
        output::check_model("--out", &folder(dataset).join(job::MODEL), &dataset.name)?;
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
        let file = folder.join(job::MODEL);
        let calibration = threshold::known(&detector, &file)?; // `fit` has set it
        tell(&format!(
            "{}: model {}, learned from {} good parts, {}, backbone {}",
            dataset.name,
            file.display(),
            detector.learned.as_ref().map_or(0, |learned| learned.parts),
            calibration.describe(),
            backbone::named(&detector.extractor)
        ))?;
        for warning in calibration.warnings() {
            tell(&format!("note: {warning}"))?;
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
    for finding in quick(dataset)? {
        let parts = finding
            .parts
            .iter()
            .take(3)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        tracing::warn!("{}: {}: {parts}", dataset.name, finding.message);
    }
    let (good, held_out) = split(config, dataset)?;
    let pictures: Vec<&Path> = good.iter().filter_map(|s| s.rgb.as_deref()).collect();
    let mut extractor = Extractor::new(config, device, source, &pictures)?;
    if let Some(line) = backbone::line(&extractor) {
        eprintln!("{line}");
    }
    let white = extractor.config().input.white;
    if white != config.input.white
        && let Some(note) = white.note()
    {
        eprintln!("note: {note}");
    }
    if let Some(limit) = max_memory
        && let Some(batch) = extractor.limit_memory(good.len() + held_out.len(), limit)?
    {
        eprintln!(
            "note: --max-memory: batches of {batch} parts instead of {}; the model learns a little differently",
            config.batch()
        );
    }
    let parts = job::features(&extractor, &good, cache, "features")?;
    let learned_from = Dataset {
        train: good.clone(),
        ..dataset.clone()
    };
    let learned = Learned::of(&learned_from, extractor.config().input.white())?;
    // Before the training: a damaged file must not cost what was learned.
    let kept_back = names(&held_out);
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
    let are_folds = are_folds(config, dataset);
    let trainings = if are_folds {
        1 + folds::count(parts.len())
    } else {
        1
    };
    let epochs = config.train.teacher_epochs + config.train.student_epochs;
    let bar = Progress::new("train", trainings * epochs);
    let mut tell = |epoch: Epoch| {
        bar.inc();
        bar.set_message(format!(
            "{} {}/{} loss {:.4}",
            epoch.stage, epoch.epoch, epoch.epochs, epoch.loss
        ));
    };
    let (mut detector, losses) = train(extractor.clone(), &parts, &mut tell)?;
    if are_folds {
        let parts = folds::calibrate(&mut detector, &extractor, &parts, &names(&good), &mut tell)?;
        detector.set_calibration(Calibration::new(Record {
            origin: Origin::Folds,
            false_alarm_rate: None,
            threshold: None,
            parts,
        })?);
    } else if held_out.is_empty() {
        detector.calibrate(&parts, &names(&good), Origin::TrainedOn, None)?;
    } else {
        detector.calibrate(&held_out, &kept_back, Origin::HeldOut, None)?;
    }
    bar.finish();
    detector.learned = Some(learned);
    Ok((detector, losses))
}

fn names(parts: &[Sample]) -> Vec<String> {
    parts.iter().map(|part| part.name.clone()).collect()
}

fn are_folds(config: &Config, dataset: &Dataset) -> bool {
    (config.train.calibration).are_folds(dataset.train.len(), dataset.validation.len())
}

/// The parts to learn from, and those that the threshold comes from.
pub fn divided(config: &Config, dataset: &Dataset) -> (Vec<Sample>, Vec<Sample>) {
    match are_folds(config, dataset) {
        true => (dataset.train.clone(), Vec::new()),
        false => dataset.split(config.train.hold_out),
    }
}

/// As [`divided`], where both suffice.
fn split(config: &Config, dataset: &Dataset) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let (good, held_out) = divided(config, dataset);
    let message = match (good.len(), held_out.len()) {
        (1, 0) => {
            "one good part to learn from; a threshold needs at least two: add some".to_string()
        }
        (n, 1) => format!(
            "{n} good parts to learn from and 1 for the threshold, which needs at least two: add some, or set \
             train.hold_out higher, or train.calibration=folds"
        ),
        _ => return Ok((good, held_out)),
    };
    Err(Error::file(&dataset.root, message))
}

//! `astray calibrate`: a threshold from good parts alone.

use super::args::{Calibrate, DataArg, Precision};
use super::{device, job, output, threshold};
use crate::data::{Cache, Dataset, Layout, Sample};
use crate::detector::{Detector, Origin};
use crate::{Error, Result};
use std::path::PathBuf;

/// A model and the data that it is calibrated on.
struct Job {
    file: PathBuf,
    datasets: Vec<Dataset>,
}

pub fn run(args: &Calibrate) -> Result<u8> {
    let device = device::open_to_score(&args.device, Precision::F32, false)?;
    let cache = args.cache.folder.as_deref().map(Cache::open).transpose()?;
    for Job { file, datasets } in jobs(args)? {
        let mut detector = Detector::load(&file, &device)?;
        super::check_weights(&detector, args.weights.as_deref())?;
        let rate = args.rate.wanted(&detector);
        let (mut good, mut origin) = (Vec::new(), Origin::Given);
        let mut stays = datasets.is_empty();
        for dataset in &datasets {
            job::check_modality(dataset, detector.config.input.modality)?;
            match good_parts(dataset, &detector)? {
                Some((parts, from)) => {
                    // Some that were trained on make the whole doubtful.
                    if origin != Origin::TrainedOn {
                        origin = from;
                    }
                    good.extend(parts);
                }
                None if datasets.len() == 1 => stays = true,
                None => {
                    let message = "all of its good parts were trained on, and the model has their scores: leave it out";
                    return Err(Error::file(&dataset.root, message));
                }
            }
        }
        match stays {
            true => {
                let calibration = threshold::known(&detector, &file)?.with(rate, None)?;
                detector.set_calibration(calibration);
            }
            false => {
                let names: Vec<String> = good.iter().map(|part| part.name.clone()).collect();
                let features =
                    job::features(&detector.extractor, &good, cache.as_ref(), "features")?;
                detector.calibrate(&features, &names, origin, rate)?;
            }
        }
        let calibration = threshold::known(&detector, &file)?;
        if args.rate.strict {
            calibration.check_supported()?;
        }
        let lines: Vec<String> = std::iter::once(calibration.describe())
            .chain(
                calibration
                    .warnings()
                    .into_iter()
                    .map(|w| format!("note: {w}")),
            )
            .collect();
        detector.save(&file)?;
        let name = match datasets.first() {
            Some(dataset) => dataset.name.clone(),
            None => file.display().to_string(),
        };
        super::print(&format!("{name}: {}", lines.join("\n")))?;
    }
    Ok(0)
}

/// Every model that `args` names, once.
fn jobs(args: &Calibrate) -> Result<Vec<Job>> {
    let mut jobs: Vec<Job> = Vec::new();
    for data in &args.data {
        let mut own = Vec::new();
        let folder = DataArg {
            good_name: args.good_name.clone(),
            ..DataArg::of(data)
        };
        for dataset in job::datasets(&folder, &args.category.names)? {
            let file = job::model_file(&args.model, &dataset.name)?;
            if own.contains(&file) {
                return Err(Error::usage(format!(
                    "{} is one model, but {} has several categories: name one with --category",
                    file.display(),
                    data.display()
                )));
            }
            own.push(file.clone());
            match jobs.iter_mut().find(|job| job.file == file) {
                Some(job) => job.datasets.push(dataset),
                None => jobs.push(Job {
                    file,
                    datasets: vec![dataset],
                }),
            }
        }
    }
    if args.data.is_empty() {
        let names = match args.category.names.is_empty() {
            true => vec![String::new()],
            false => args.category.names.clone(),
        };
        for name in names {
            jobs.push(Job {
                file: job::model_file(&args.model, &name)?,
                datasets: Vec::new(),
            });
        }
    }
    for job in &jobs {
        output::check_file("calibrate", &job.file)?;
    }
    Ok(jobs)
}

/// The parts that count; `None` where the model has scores of all of them by networks that had not seen them.
fn good_parts(dataset: &Dataset, detector: &Detector) -> Result<Option<(Vec<Sample>, Origin)>> {
    if dataset.layout == Layout::Plain {
        check_good(dataset)?;
        return Ok(Some((dataset.train.clone(), Origin::Given)));
    }
    let choice = &detector.config.train;
    let (trained_on, held_out) = dataset.split(choice.hold_out);
    let has_folds = detector
        .calibration()
        .is_some_and(|c| c.record().origin == Origin::Folds);
    let are_folds = (choice.calibration).are_folds(dataset.train.len(), dataset.validation.len());
    Ok(match (are_folds, held_out.is_empty()) {
        (true, _) if has_folds => None,
        // With folds nothing was kept back.
        (true, _) => Some((dataset.train.clone(), Origin::TrainedOn)),
        (false, false) => Some((held_out, Origin::HeldOut)),
        (false, true) => Some((trained_on, Origin::TrainedOn)),
    })
}

/// A folder such as `test/crack` holds defects: its name says so.
fn check_good(dataset: &Dataset) -> Result<()> {
    let root = dataset.root.canonicalize();
    let root = root.map_err(|e| Error::file(&dataset.root, e))?;
    let folder = |levels| {
        root.ancestors()
            .nth(levels)
            .and_then(|path| path.file_name())
    };
    let is_split =
        |name: &std::ffi::OsStr| ["test", "train", "validation"].iter().any(|s| name == *s);
    let (own, above) = match folder(0) {
        // As in MVTec 3D-AD: test/crack/rgb.
        Some(name) if name == "rgb" => (folder(1), folder(2)),
        own => (own, folder(1)),
    };
    if above.is_some_and(is_split) && own.is_some_and(|name| name != "good") {
        let message = "its name says that these are defective parts; a threshold comes from good ones: give their \
                       folder, or defects to `astray threshold --known-defects`";
        return Err(Error::file(&dataset.root, message));
    }
    Ok(())
}

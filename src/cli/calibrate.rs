//! `astray calibrate`: a threshold from good parts alone.

use super::args::{Calibrate, Precision};
use super::{device, job, output};
use crate::data::Layout;
use crate::detector::Detector;
use crate::{Error, Result};

pub fn run(args: &Calibrate) -> Result<u8> {
    let device = device::open_to_score(&args.device, Precision::F32, false)?;
    let datasets = job::datasets(&args.data, &args.category.names)?;
    let mut files = Vec::new();
    for dataset in &datasets {
        let file = job::model_file(&args.model, &dataset.name)?;
        output::check_file("calibrate", &file)?;
        if files.contains(&file) {
            return Err(Error::usage(format!(
                "{} is one model, but {} has several categories: name one with --category",
                file.display(),
                args.data.display()
            )));
        }
        files.push(file);
    }
    for (dataset, file) in datasets.iter().zip(files) {
        let mut detector = Detector::load(&file, &device)?;
        job::check_modality(dataset, detector.config.input.modality)?;
        super::check_weights(&detector, args.weights.as_deref())?;
        // A plain folder of pictures is given for this purpose: all of them count.
        let share = match dataset.layout {
            Layout::Plain => 0.0,
            _ => detector.config.train.hold_out,
        };
        let (trained_on, held_out) = dataset.split(share);
        let good = match held_out.is_empty() {
            true => trained_on,
            false => held_out,
        };
        let good = job::features(&detector.extractor, &good, None, "features")?;
        let threshold = detector.calibrate(&good, args.quantile)?;
        detector.save(&file)?;
        super::print(&format!(
            "{}: threshold {threshold:.4} from {} good parts",
            dataset.name,
            good.len()
        ))?;
    }
    Ok(0)
}

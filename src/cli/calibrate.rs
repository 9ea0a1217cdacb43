//! `astray calibrate`: a threshold from good parts alone.

use super::args::Calibrate;
use super::{device, job, output};
use crate::detector::Detector;
use crate::{Error, Result};

pub fn run(args: &Calibrate) -> Result<u8> {
    let device = device::open(&args.device.name, false)?;
    let datasets = job::datasets(&args.data, &args.category.names)?;
    for dataset in &datasets {
        output::check_file("calibrate", &job::model_file(&args.model, &dataset.name)?)?;
    }
    for dataset in &datasets {
        let file = job::model_file(&args.model, &dataset.name)?;
        let mut detector = Detector::load(&file, &device)?;
        super::check_weights(&detector, args.weights.as_deref())?;
        let held_out = if dataset.validation.is_empty() {
            &dataset.train
        } else {
            &dataset.validation
        };
        if held_out.is_empty() {
            return Err(Error::file(&dataset.root, "no good parts to calibrate on"));
        }
        let good = job::features(&detector.extractor, held_out, None, "features")?;
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

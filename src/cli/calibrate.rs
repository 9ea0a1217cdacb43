//! `astray calibrate`: a threshold from good parts alone.

use super::args::Calibrate;
use super::{device, job, output};
use crate::Result;
use crate::data::Layout;
use crate::detector::Detector;

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

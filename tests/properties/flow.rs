//! A random flow, and whether it can be undone in f32.

use super::{CPU, relative, rms, tensor, values};
use astray::models::positional::positional_encoding;
use astray::models::real_nvp::{RealNvp, RealNvpConfig};
use astray::models::whitening::{Moments, Whitening};
use astray::nn::random::Random;
use astray::tape::Tape;
use astray::tensor::Tensor;
use nalgebra::DMatrix;
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;

/// Errors were found to be below 3e-7 times the gain of [`Flow::verdict`], so that 1e-4 can be asked
/// of flows up to this gain.
const WELL_CONDITIONED: f64 = 300.0;
/// Where a flow clamps its values (spec section 5).
const CLAMP: f64 = 1e6;

#[derive(Clone, Debug)]
pub struct Flow {
    pub config: RealNvpConfig,
    pub shape: [usize; 3],
    /// Multiplies the convolutions' initial weights.
    pub weight_scale: f32,
    /// γ is uniform in ± this.
    pub gamma: f32,
    /// Does a whitening come first?
    pub whitened: bool,
    pub seed: u64,
}

pub fn flows(channels: std::ops::Range<usize>, pixels: usize) -> impl Strategy<Value = Flow> {
    let kernels = vec(prop::sample::select(vec![1, 3, 5, 7]), 1..=4);
    let condition = prop::sample::select(vec![0, 4, 32]);
    let sizes = (channels, condition, 1..=16_usize, kernels, 0.5..4.0_f32);
    let shape = (1..=2_usize, 1..=pixels, 1..=pixels).prop_map(|(n, h, w)| [n, h, w]);
    let weights = (0.25..4.0_f32, 0.0..4.0_f32, any::<bool>(), any::<u64>());
    (sizes, shape, weights).prop_map(|(sizes, shape, (weight_scale, gamma, whitened, seed))| {
        let (channels, condition, hidden, kernels, alpha) = sizes;
        Flow {
            config: RealNvpConfig {
                channels,
                condition,
                hidden,
                kernels,
                alpha,
            },
            shape,
            weight_scale,
            gamma,
            whitened,
            seed,
        }
    })
}

/// A whitening of features that vary together at random.
fn whitening(channels: usize, seed: u64) -> Whitening {
    let mut random = Random::new(seed.rotate_left(17));
    let factors = DMatrix::from_fn(channels, channels, |_, _| random.normal());
    let moments = Moments {
        mean: (0..channels).map(|_| random.normal()).collect(),
        // Variances apart by tens, not by thousands, as the flow's own blocks are.
        covariance: &factors * factors.transpose() / channels as f64
            + DMatrix::identity(channels, channels) * 0.3,
    };
    Whitening::of(CPU, moments, 0.01).unwrap()
}

/// A network, its input and its condition.
pub struct Built {
    pub net: RealNvp,
    pub x: Tensor,
    pub condition: Option<Tensor>,
}

/// Whether a flow can be undone in f32, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    WellConditioned,
    /// A value reached the clamp: many inputs have this output.
    Clamped,
    /// A small relative change of some block's output changes the input, or the log-determinant,
    /// much more.
    Stretched,
}

impl Flow {
    pub fn build(&self) -> Built {
        let mut net = RealNvp::init(CPU, self.config.clone(), "flow.", self.seed).unwrap();
        let mut random = Random::new(self.seed);
        for (name, parameter) in net.parameters() {
            let mut data = parameter.to_vec().unwrap();
            for value in &mut data {
                if name.ends_with(".gamma") {
                    *value = self.gamma * (2.0 * random.uniform() - 1.0) as f32;
                } else {
                    *value *= self.weight_scale;
                }
            }
            *parameter = Tensor::new(CPU, parameter.shape(), data).unwrap();
        }
        let whitening = self
            .whitened
            .then(|| whitening(self.config.channels, self.seed));
        let net = net.whitened_by(whitening);
        let [n, h, w] = self.shape;
        // A stream of its own, so that a flow's first blocks get the same input.
        let mut random = Random::new(!self.seed);
        let positions = |channels| positional_encoding(CPU, self.shape, channels).unwrap();
        Built {
            net,
            x: tensor([n, h, w, self.config.channels], &mut random),
            condition: (self.config.condition > 0).then(|| positions(self.config.condition)),
        }
    }
}

impl Built {
    /// The output and the log-determinant of each pixel.
    pub fn run(&self, input: &Tensor, inverse: bool) -> (Tensor, Vec<f64>) {
        let tape = Tape::inference();
        let condition = self.condition.as_ref().map(|c| tape.constant(c));
        let input = tape.constant(input);
        let (output, log_det) = match inverse {
            true => self.net.inverse(&tape, &input, condition.as_ref()),
            false => self.net.forward(&tape, &input, condition.as_ref()),
        }
        .unwrap();
        (output.tensor().clone(), values(log_det.tensor()))
    }

    /// How much more a small random change of `input` changes the output (relative) or the
    /// log-determinant.
    fn gain(&self, input: &Tensor, inverse: bool) -> f64 {
        let mut random = Random::new(1);
        let size = 1e-4 * rms(&values(input));
        let moved = input.to_vec().unwrap();
        let moved = moved.iter().map(|x| x + (size * random.normal()) as f32);
        let moved = Tensor::new(CPU, input.shape(), moved.collect()).unwrap();
        let [(output, log_det), (moved_output, moved_log_det)] =
            [input, &moved].map(|input| self.run(input, inverse));
        let change = relative(&values(&moved_output), &values(&output));
        let off: Vec<f64> = (moved_log_det.iter().zip(&log_det))
            .map(|(a, b)| a - b)
            .collect();
        change.max(rms(&off)) / relative(&values(&moved), &values(input))
    }
}

impl Flow {
    /// The flow's first `blocks` blocks, with the same weights and input.
    fn first(&self, blocks: usize) -> Built {
        let mut flow = self.clone();
        flow.config.kernels.truncate(blocks);
        flow.build()
    }

    /// Looks at the output of every block: what a rounding error there does to the input that is
    /// found from it.
    fn verdict(&self) -> Verdict {
        let mut worst = 0.0_f64;
        for blocks in 1..=self.config.kernels.len() {
            let built = self.first(blocks);
            let (z, _) = built.run(&built.x, false);
            if values(&z).iter().any(|z| z.abs() >= CLAMP) {
                return Verdict::Clamped;
            }
            worst = worst
                .max(built.gain(&built.x, false))
                .max(built.gain(&z, true));
        }
        match worst <= WELL_CONDITIONED {
            true => Verdict::WellConditioned,
            false => Verdict::Stretched,
        }
    }
}

/// How many flows were checked, and how many were not and why.
#[derive(Default)]
pub struct Tally {
    checked: Cell<usize>,
    clamped: Cell<usize>,
    stretched: Cell<usize>,
}

impl Tally {
    /// Counts the flow; is it to be checked?
    pub fn checks(&self, flow: &Flow) -> bool {
        let verdict = flow.verdict();
        let counter = match verdict {
            Verdict::WellConditioned => &self.checked,
            Verdict::Clamped => &self.clamped,
            Verdict::Stretched => &self.stretched,
        };
        counter.set(counter.get() + 1);
        verdict == Verdict::WellConditioned
    }

    /// Says the counts; fails where fewer than `least` flows were checked.
    pub fn conclude(&self, what: &str, least: usize) {
        let [checked, clamped, stretched] =
            [&self.checked, &self.clamped, &self.stretched].map(Cell::get);
        let counts = format!(
            "{what}: {checked} flows checked; not checked: {clamped} that reached the clamp, \
             {stretched} that stretch more than {WELL_CONDITIONED}"
        );
        println!("{counts}");
        assert!(checked >= least, "{counts}");
    }
}

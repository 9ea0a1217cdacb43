//! NaN and infinities: on the CPU as in PyTorch, refused on the way to a GPU, kept where a GPU makes them, and never a
//! score.

use astray::Error;
use astray::detector::config::{Config, Modality};
use astray::detector::{Detector, Extractor, Features};
use astray::gpu::{self, Options};
use astray::models::real_nvp::{RealNvp, RealNvpConfig};
use astray::nn::random::named_tensor;
use astray::ops::Activation;
use astray::ops::activation::activation;
use astray::ops::conv2d::Variant;
use astray::ops::coupling::coupling;
use astray::profile::record;
use astray::selftest::{Array, Case, cases};
use astray::tape::Tape;
use astray::tensor::{Device, Shape, Tensor};
use astray::weights::Source;

const INF: f32 = f32::INFINITY;
const NOT_FINITE: [f32; 3] = [f32::NAN, INF, -INF];

/// Every adapter, in f32 and f16.
fn gpus(variant: Option<Variant>) -> impl Iterator<Item = Device> {
    let adapters = gpu::adapters();
    assert!(!adapters.is_empty(), "no adapter: install a Vulkan driver");
    adapters.into_iter().flat_map(move |adapter| {
        let open = move |half| {
            let options = Options {
                half,
                variant: variant.map(|variant| variant.name().into()),
                ..Options::default()
            };
            Device::Gpu(gpu::open(adapter.index, &options).unwrap())
        };
        let both = [Some(false), adapter.f16.then_some(true)];
        both.into_iter().flatten().map(open)
    })
}

/// A tensor as an operator might have computed it: what [`Tensor::new`] lets nobody give to a GPU.
fn computed(device: &Device, shape: Shape, data: Vec<f32>, exact: bool) -> Tensor {
    match device {
        Device::Cpu => Tensor::new(device, shape, data).unwrap(),
        Device::Gpu(gpu) => {
            let buffer = match exact {
                true => gpu.upload_f32(&data),
                false => gpu.upload(&data),
            };
            Tensor::gpu_tensor(gpu, shape, buffer.unwrap())
        }
    }
}

fn class(x: f32) -> &'static str {
    match x {
        x if x.is_nan() => "NaN",
        INF => "inf",
        x if x == -INF => "-inf",
        _ => "finite",
    }
}

/// Inputs of a case in which element `at` of input `which` is `value`.
fn inputs(case: &Case, which: usize, at: usize, value: f32) -> Vec<Vec<f32>> {
    let drawn = case.inputs.iter().enumerate().map(|(i, input)| {
        let unit = named_tensor(&format!("input {i}"), input.shape.len(), 1.0, 3);
        unit.iter()
            .map(|u| input.offset + input.scale * u)
            .collect()
    });
    let mut all: Vec<Vec<f32>> = drawn.collect();
    all[which][at] = value;
    all
}

fn expected(case: &Case, data: &[Vec<f32>]) -> Vec<f32> {
    let arrays = data.iter().zip(&case.inputs).map(|(data, input)| Array {
        shape: input.shape,
        data: data.iter().map(|&x| f64::from(x)).collect(),
    });
    let all = (case.reference)(&arrays.collect::<Vec<_>>());
    all.iter()
        .flat_map(|array| array.data.iter().map(|&x| x as f32))
        .collect()
}

fn found(case: &Case, device: &Device, data: Vec<Vec<f32>>) -> Vec<f32> {
    let tape = Tape::inference();
    let inputs: Vec<_> = (data.into_iter().zip(&case.inputs))
        .map(|(data, input)| tape.constant(&computed(device, input.shape, data, input.exact)))
        .collect();
    let outputs = (case.run)(&tape, &inputs).unwrap();
    outputs
        .iter()
        .flat_map(|output| output.tensor().to_vec().unwrap())
        .collect()
}

/// Where a border is padded with zeros, PyTorch multiplies an infinite weight by them, or does not: no two of its
/// kernels need agree.
fn may_meet_padding(case: &Case, which: usize) -> bool {
    matches!(
        (case.operator, which),
        ("conv2d" | "depthwise" | "bottleneck", 1) | ("coupling", 3)
    )
}

/// The plain loops add and multiply as IEEE 754 and PyTorch do. Winograd's tiles mix pixels: there it is enough
/// that nothing that should not be finite is.
#[test]
fn on_the_cpu_every_operator_is_as_the_plain_loops() {
    let (mut seen, mut failed) = (0, Vec::new());
    for case in cases() {
        for which in 0..case.inputs.len() {
            let len = case.inputs[which].shape.len();
            for (value, at) in NOT_FINITE.into_iter().zip([len / 2, len - 1, len / 3]) {
                let data = inputs(&case, which, at, value);
                let expected = expected(&case, &data);
                let run = || Ok(found(&case, &Device::Cpu, data));
                let (found, recording) = record(&Device::Cpu, true, run).unwrap();
                let mixed = recording.calls.iter().any(|c| c.variant == "winograd");
                let loose = mixed || may_meet_padding(&case, which);
                assert_eq!(found.len(), expected.len());
                let is_right = |found: f32, expected: f32| match loose {
                    true => expected.is_finite() || !found.is_finite(),
                    false if expected.is_finite() => {
                        (found - expected).abs() <= 1e-4 * (1.0 + expected.abs())
                    }
                    false => class(found) == class(expected),
                };
                seen += expected.iter().filter(|e| !e.is_finite()).count();
                let mut pairs = found.iter().zip(&expected);
                if let Some((found, expected)) = pairs.find(|(f, e)| !is_right(**f, **e)) {
                    let Case { operator, name, .. } = &case;
                    failed.push(format!(
                        "{operator} {name}: {value} in input {which} gives {found}, not {expected}"
                    ));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(seen > 100_000, "only {seen} were not finite");
}

/// On the adapters that are there: WGSL promises nothing of it.
fn stays(device: &Device, case: &Case, which: usize, value: f32) -> usize {
    let at = case.inputs[which].shape.len() / 2;
    let data = inputs(case, which, at, value);
    let expected = expected(case, &data);
    let found = found(case, device, data);
    let mut seen = 0;
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(
            expected.is_finite() || !found.is_finite(),
            "{} {} on {}, f16 {}: {value} at {at} of input {which} gives {found} at {i}, not {expected}",
            case.operator,
            case.name,
            device.name(),
            device.is_half()
        );
        seen += usize::from(!expected.is_finite());
    }
    seen
}

/// Adam refuses a step in f16 that overflowed: nothing changes.
fn refuses_it(device: &Device, case: &Case) -> bool {
    case.operator == "adam" && device.is_half()
}

#[test]
fn what_a_gpu_makes_is_not_made_finite_again() {
    let mut seen = 0;
    for device in gpus(None) {
        for case in cases().iter().filter(|case| !refuses_it(&device, case)) {
            for which in 0..case.inputs.len() {
                seen += stays(&device, case, which, f32::NAN);
                seen += stays(&device, case, which, INF);
            }
        }
    }
    assert!(seen > 100_000, "only {seen} were not finite");
}

#[test]
fn no_variant_of_the_convolution_makes_it_finite_again() {
    let mut cases = cases();
    cases.retain(|case| ["conv2d", "depthwise", "bottleneck", "coupling"].contains(&case.operator));
    for variant in Variant::ALL {
        for device in gpus(Some(variant)) {
            for case in &cases {
                stays(&device, case, 0, f32::NAN);
            }
        }
    }
}

type Row = [f32; 5];

/// PyTorch 2 on the CPU at NaN, ∞, −∞, 1 and −1: f(x), and the gradients for 2 and for ∞.
const ACTIVATIONS: [(Activation, [Row; 3]); 5] = {
    const NAN: f32 = f32::NAN;
    const S: f32 = 0.731_058_6;
    [
        (
            Activation::Relu,
            [
                [NAN, INF, 0.0, 1.0, 0.0],
                [2.0, 2.0, 0.0, 2.0, 0.0],
                [INF, INF, 0.0, INF, 0.0],
            ],
        ),
        (
            Activation::LeakyRelu(0.2),
            [
                [NAN, INF, -INF, 1.0, -0.2],
                [0.4, 2.0, 0.4, 2.0, 0.4],
                [INF; 5],
            ],
        ),
        (
            Activation::Silu,
            [
                [NAN, INF, NAN, S, S - 1.0],
                [NAN, NAN, NAN, 1.855_341, 0.144_658_96],
                [NAN, NAN, NAN, INF, INF],
            ],
        ),
        (
            Activation::Sigmoid,
            [
                [NAN, 1.0, 0.0, S, 1.0 - S],
                [NAN, 0.0, 0.0, 0.393_223_86, 0.393_223_86],
                [NAN, NAN, NAN, INF, INF],
            ],
        ),
        (
            Activation::Relu6,
            [
                [NAN, 6.0, 0.0, 1.0, 0.0],
                [2.0, 0.0, 0.0, 2.0, 0.0],
                [INF, 0.0, 0.0, INF, 0.0],
            ],
        ),
    ]
};

fn same(found: &[f32], expected: &[f32], what: &str) {
    let close = |(f, e): (&f32, &f32)| match e.is_finite() {
        true => (f - e).abs() <= 1e-6,
        false => class(*f) == class(*e),
    };
    let right = found.len() == expected.len() && found.iter().zip(expected).all(close);
    assert!(right, "{what}: {found:?}, not {expected:?}");
}

#[test]
fn activations_and_their_gradients_are_pytorchs() {
    let at = [f32::NAN, INF, -INF, 1.0, -1.0];
    for (f, [y, two, infinite]) in ACTIVATIONS {
        for (grad, expected) in [(2.0, two), (INF, infinite)] {
            let x = Tensor::new(&Device::Cpu, [5], at.to_vec()).unwrap();
            let tape = Tape::training();
            let made = activation(&tape, &tape.leaf(&x), f).unwrap();
            same(&made.tensor().to_vec().unwrap(), &y, &format!("{f:?}"));
            let grad = Tensor::full(&Device::Cpu, [5], grad).unwrap();
            let gradients = tape.backward_from(&[(&made, grad)]).unwrap();
            let found = gradients.of(&x).unwrap().to_vec().unwrap();
            same(&found, &expected, &format!("gradient of {f:?}"));
        }
    }
}

/// `torch.clamp` keeps NaN and passes no gradient where it clamps, nor at NaN.
#[test]
fn the_couplings_clamp_is_pytorchs() {
    let x = Tensor::new(
        &Device::Cpu,
        [1, 1, 1, 5],
        vec![f32::NAN, INF, -INF, 3e7, 3.0],
    );
    let x = x.unwrap();
    let zeros = |shape| Tensor::full(&Device::Cpu, shape, 0.0).unwrap();
    let tape = Tape::training();
    let [u, gamma] = [zeros(Shape::from([1, 1, 1, 10])), zeros(Shape::from([1]))];
    let (y, log_det) = coupling(
        &tape,
        &tape.leaf(&x),
        &tape.constant(&u),
        &tape.constant(&gamma),
        None,
        1.9,
    )
    .unwrap();
    let found = y.tensor().to_vec().unwrap();
    same(&found, &[f32::NAN, 1e6, -1e6, 1e6, 3.0], "coupling");
    same(&log_det.tensor().to_vec().unwrap(), &[0.0], "log_det");
    let grad = Tensor::full(&Device::Cpu, x.shape(), 2.0).unwrap();
    let gradients = tape.backward_from(&[(&y, grad)]).unwrap();
    let found = gradients.of(&x).unwrap().to_vec().unwrap();
    same(&found, &[0.0, 0.0, 0.0, 0.0, 2.0], "gradient");
}

#[test]
fn nothing_that_is_not_finite_goes_to_a_gpu() {
    let refused = |made: astray::Result<Tensor>, value: f32, words: &str| {
        let error = made.unwrap_err();
        let Error::NotFinite { found, index, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((class(found), index), (class(value), 37), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let data = |value: f32| {
        let mut data = vec![1.0; 41];
        data[37] = value;
        data
    };
    for device in gpus(None) {
        let half = device.is_half();
        let words = "or use `--device cpu`";
        for value in NOT_FINITE {
            refused(Tensor::new(&device, [41], data(value)), value, words);
            refused(Tensor::parameter(&device, [41], data(value)), value, words);
            let exact = Tensor::new_f32(&device, [41], data(value));
            refused(exact, value, words);
            assert!(Tensor::full(&device, [3], value).is_err());
            // The CPU computes with it.
            Tensor::new(&Device::Cpu, [41], data(value)).unwrap();
        }
        let large = Tensor::new_f32(&device, [41], data(f32::MAX)).unwrap();
        assert_eq!(large.to_vec().unwrap()[37], f32::MAX);
        for (value, kept) in [(65504.0, 65504.0), (65519.0, 65504.0)] {
            let kept = if half { kept } else { value };
            let made = Tensor::new(&device, [41], data(-value)).unwrap();
            assert_eq!(made.to_vec().unwrap()[37], -kept);
        }
        match half {
            true => refused(
                Tensor::new(&device, [41], data(-65520.0)),
                -65520.0,
                "--precision f32",
            ),
            false => drop(Tensor::new(&device, [41], data(-65520.0)).unwrap()),
        }
    }
}

/// z of 60000 under scales of up to e^0.9.
#[test]
fn an_inverse_that_f16_cannot_hold_says_so() {
    let mut tried = 0;
    for device in gpus(None) {
        let config = RealNvpConfig {
            channels: 5,
            condition: 0,
            hidden: 3,
            kernels: vec![1, 3],
            alpha: 1.9,
        };
        let mut net = RealNvp::init(&device, config, "flow.", 0).unwrap();
        for (name, parameter) in net.parameters() {
            // s is −1 and t is 0.
            let value = match () {
                () if name.ends_with("gamma") => vec![1.0],
                () if name.ends_with("conv2.bias") => {
                    let both = parameter.shape().len();
                    (0..both)
                        .map(|i| -f32::from(u8::from(i < both / 2)))
                        .collect()
                }
                () => vec![0.0; parameter.shape().len()],
            };
            *parameter = Tensor::parameter(&device, parameter.shape(), value).unwrap();
        }
        for (z, fits) in [(100.0, true), (60000.0, !device.is_half())] {
            let tape = Tape::inference();
            let z = Tensor::full(&device, [1, 3, 2, 5], z).unwrap();
            match net.inverse(&tape, &tape.constant(&z), None) {
                Ok((x, _)) => {
                    assert!(fits, "{:?}", x.tensor().to_vec());
                    // e^(α·0.636·atan(1/α)), twice.
                    let gain = (1.9 * 0.636 * (1.0_f32 / 1.9).atan()).exp().powi(2);
                    let (x, z) = (x.tensor().to_vec().unwrap(), z.to_vec().unwrap());
                    assert!(
                        x.iter()
                            .zip(z)
                            .all(|(x, z)| (x / z / gain - 1.0).abs() < 1e-2)
                    );
                }
                Err(error) => {
                    assert!(!fits && matches!(error, Error::NotFinite { .. }), "{error}");
                    assert!(error.to_string().contains("--precision f32"), "{error}");
                }
            }
            tried += 1;
        }
    }
    assert!(tried >= 4);
}

#[test]
fn a_score_that_is_no_number_is_an_error() {
    let mut config = Config::preset("mvtec3d").unwrap();
    config.input.modality = Modality::Depth;
    let extractor = Extractor::new(&config, &Device::Cpu, &Source::Seeded, &[]).unwrap();
    let (side, channels) = (extractor.side(), extractor.channels());
    let detector = Detector::untrained(extractor).unwrap();
    for value in [f32::NAN, INF, -INF, f32::MAX] {
        let mut features = Features {
            map: named_tensor("map", side * side * channels, 1.0, 0),
            mask: vec![1.0; side * side],
            part_found: true,
        };
        assert!(detector.score(&features).unwrap().score.is_finite());
        features.map[side * channels + 7] = value;
        let error = detector.score(&features).unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        assert!(error.to_string().contains("the anomaly map"), "{error}");
    }
}

//! Which device `--device` means.

use super::args::{DeviceArg, DeviceChoice, Precision};
use crate::gpu::{self, AdapterReport};
use crate::ops::conv2d::Variant;
use crate::tensor::Device;
use crate::{Error, Result};
use std::time::Duration;

/// How long `--tune` measures kernels at most.
const TUNING: Duration = Duration::from_secs(30);

/// As [`open`], for commands that score: on the CPU they work on one part at a time.
///
/// # Errors
/// As [`open`]; [`Error::Usage`] for a limit that nothing would heed.
pub fn open_to_score(args: &DeviceArg, precision: Precision, poison: bool) -> Result<Device> {
    let device = open(args, precision, poison)?;
    match (&device, args.max_memory) {
        (Device::Cpu, Some(_)) => Err(Error::usage(
            "--max-memory: on the CPU this command works on one part at a time and cannot take less; leave it out, \
             or choose a smaller input.image_size when training",
        )),
        _ => Ok(device),
    }
}

/// The device that `--device` asks for, opened with the kernels of `--shaders`. `poison` fills
/// memory with NaN before it is used, on either device.
///
/// # Errors
/// [`Error::Usage`] listing the devices when there is none such, or for kernels without a GPU;
/// [`Error::Device`] when the driver refuses.
pub fn open(args: &DeviceArg, precision: Precision, poison: bool) -> Result<Device> {
    let for_gpu = match (&args.shaders, &args.variant, precision) {
        (Some(_), _, _) => Some("--shaders"),
        (_, Some(_), _) => Some("--variant"),
        (_, _, Precision::F16) => Some("--precision f16"),
        _ if args.tune => Some("--tune"),
        _ => None,
    };
    if poison {
        crate::cpu::pool::poison();
    }
    if args.name == DeviceChoice::Cpu && for_gpu.is_none() {
        return Ok(Device::Cpu); // drivers are slow to ask, and may be broken
    }
    let adapters = gpu::adapters();
    let Some(adapter) = select(&args.name, &adapters)? else {
        return match for_gpu {
            None => Ok(Device::Cpu),
            Some(option) => Err(Error::usage(format!(
                "{option}: this is for a GPU, and the device is the CPU; leave it out, or choose a GPU by --device: {}",
                expected(&adapters)
            ))),
        };
    };
    if let Some(name) = &args.variant {
        check_variant(name, adapter, precision == Precision::F16)?;
    }
    if let Some(folder) = args.shaders.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Error::usage(format!(
            "--shaders {}: expected a folder with WGSL files named as in `shaders/`; there is none",
            folder.display()
        )));
    }
    let options = gpu::Options {
        poison,
        shaders: args.shaders.clone(),
        variant: args.variant.clone(),
        tune: args.tune.then_some(TUNING),
        cache: None,
        half: precision == Precision::F16,
        max_memory: args.max_memory,
        max_binding: None,
    };
    gpu::open(adapter.index, &options).map(Device::Gpu)
}

/// A kernel that is unknown, or that can run nothing on this adapter, is refused: it would not be taken.
fn check_variant(name: &str, adapter: &AdapterReport, half: bool) -> Result<()> {
    let problem = match Variant::parse(name) {
        Some((variant, _)) if variant.runs_on(adapter, half) => return Ok(()),
        Some(_) => format!(
            "{} cannot run the kernel \"{name}\" in {}",
            adapter.name,
            if half { "f16" } else { "f32" }
        ),
        None => format!("there is no kernel \"{name}\""),
    };
    let able = Variant::ALL
        .into_iter()
        .filter(|v| v.runs_on(adapter, half));
    let able: Vec<&str> = able.map(Variant::name).collect();
    Err(Error::usage(format!(
        "--variant: {problem}; expected one of {}, or as tile64/4 with its sums in 4 slices (not plain, not winograd)",
        able.join(", ")
    )))
}

/// The adapter that `choice` means, `None` for the CPU. Software adapters, slower than the CPU
/// itself, are found only by name or number.
///
/// # Errors
/// [`Error::Usage`] listing the devices when there is none such.
pub fn select<'a>(
    choice: &DeviceChoice,
    adapters: &'a [AdapterReport],
) -> Result<Option<&'a AdapterReport>> {
    let unknown = |wanted: String| {
        Error::usage(format!(
            "--device: {wanted}; expected {}",
            expected(adapters)
        ))
    };
    let found = match choice {
        DeviceChoice::Auto => return Ok(fastest(adapters.iter())),
        DeviceChoice::Cpu => return Ok(None),
        DeviceChoice::Gpu => {
            fastest(adapters.iter()).ok_or_else(|| unknown("no hardware GPU found".into()))
        }
        DeviceChoice::Index(index) => adapters
            .iter()
            .find(|adapter| adapter.index == *index)
            .ok_or_else(|| unknown(format!("no adapter number {index}"))),
        DeviceChoice::Name(part) => {
            let part = part.to_lowercase();
            let named = |a: &&AdapterReport| a.name.to_lowercase().contains(&part);
            fastest(adapters.iter().filter(named))
                .or_else(|| adapters.iter().find(named))
                .ok_or_else(|| unknown(format!("no adapter's name contains \"{part}\"")))
        }
    };
    found.map(Some)
}

/// The first hardware adapter, discrete before integrated before virtual.
fn fastest<'a>(adapters: impl Iterator<Item = &'a AdapterReport>) -> Option<&'a AdapterReport> {
    let rank = |adapter: &&AdapterReport| match adapter.kind.as_str() {
        "DiscreteGpu" => 0,
        "IntegratedGpu" => 1,
        _ => 2,
    };
    adapters.filter(|adapter| adapter.hardware).min_by_key(rank)
}

fn expected(adapters: &[AdapterReport]) -> String {
    let list = adapters.iter().map(|a| {
        let software = if a.hardware { "" } else { ", software" };
        format!("{} ({}{software})", a.index, a.name)
    });
    let words = ["auto", "cpu"].map(String::from).into_iter();
    let gpu = fastest(adapters.iter()).map(|_| "gpu".to_string());
    words.chain(gpu).chain(list).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, name: &str, kind: &str) -> AdapterReport {
        AdapterReport {
            index,
            name: name.into(),
            kind: kind.into(),
            backend: "vulkan".into(),
            driver: String::new(),
            f16: false,
            subgroups: None,
            timestamps: false,
            immediates: false,
            cooperative_matrices: Vec::new(),
            max_binding_bytes: 1 << 27,
            max_workgroup_bytes: 1 << 14,
            hardware: kind != "Cpu",
        }
    }

    fn machine() -> Vec<AdapterReport> {
        vec![
            adapter(0, "llvmpipe", "Cpu"),
            adapter(1, "Intel UHD", "IntegratedGpu"),
            adapter(2, "NVIDIA T4", "DiscreteGpu"),
            adapter(3, "NVIDIA H100", "DiscreteGpu"),
        ]
    }

    fn index(name: &str, adapters: &[AdapterReport]) -> Result<Option<usize>> {
        let choice = name.parse().map_err(Error::usage)?;
        Ok(select(&choice, adapters)?.map(|adapter| adapter.index))
    }

    #[test]
    fn words_numbers_and_names() {
        for (name, expected) in [
            ("auto", Some(2)),
            ("gpu", Some(2)),
            ("cpu", None),
            ("1", Some(1)),
            ("0", Some(0)),
            ("uhd", Some(1)),
            ("h100", Some(3)),
            ("NVIDIA", Some(2)),
            ("LLVM", Some(0)),
        ] {
            assert_eq!(index(name, &machine()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn integrated_is_better_than_none_and_software_is_not() {
        assert_eq!(index("auto", &machine()[..2]).unwrap(), Some(1));
        assert_eq!(index("auto", &machine()[..1]).unwrap(), None);
        assert_eq!(index("auto", &[]).unwrap(), None);
    }

    #[test]
    fn a_kernel_that_would_never_be_taken_is_refused() {
        let software = &machine()[0];
        for name in ["winograd4", "tile64/4", "direct/16", "split/1"] {
            check_variant(name, software, false).unwrap();
        }
        for (name, half, words) in [
            (
                "matrix",
                true,
                "llvmpipe cannot run the kernel \"matrix\" in f16",
            ),
            (
                "matrix",
                false,
                "llvmpipe cannot run the kernel \"matrix\" in f32",
            ),
            ("winograd6", false, "there is no kernel \"winograd6\""),
            ("winograd2/4", false, "there is no kernel \"winograd2/4\""),
            ("tile64/0", false, "there is no kernel \"tile64/0\""),
            ("tile64/", false, "there is no kernel \"tile64/\""),
        ] {
            let error = check_variant(name, software, half).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let message = error.to_string();
            assert!(message.contains(words), "{message}");
            assert!(
                message.contains("expected one of plain, direct, tile64"),
                "{message}"
            );
        }
        let mut able = machine()[3].clone();
        able.cooperative_matrices = vec!["8x8x8 F32->F32".into()];
        able.subgroups = Some([32, 32]);
        able.max_workgroup_bytes = 48 << 10;
        check_variant("matrix", &able, false).unwrap();
        check_variant("matrix", &able, true).unwrap_err();
        able.cooperative_matrices = vec!["8x8x8 F16->F32".into(), "16x16x16 F16->F32".into()];
        assert_eq!(able.matrix_side(true), Some(16));
        able.max_workgroup_bytes = 32 << 10;
        assert_eq!(able.matrix_side(true), Some(8));
        able.subgroups = Some([8, 8]);
        assert_eq!(able.matrix_side(true), Some(8));
        for subgroups in [[4, 4], [16, 16], [8, 32], [4, 64]] {
            able.subgroups = Some(subgroups);
            assert_eq!(able.matrix_side(true), None);
        }
    }

    #[test]
    fn unknown_devices_are_wrong_usage_and_the_message_lists_what_there_is() {
        for (name, adapters) in [
            ("radv", machine()),
            ("7", machine()),
            ("gpu", machine()[..1].to_vec()),
        ] {
            let error = index(name, &adapters).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let message = error.to_string();
            assert!(message.contains("0 (llvmpipe, software)"), "{message}");
            assert!(message.starts_with("--device: no "), "{message}");
        }
    }
}

use astray::cpu::aligned::Aligned;
use rayon::ThreadPoolBuilder;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;

#[global_allocator]
static MEMORY: Aligned = Aligned;

fn main() -> ExitCode {
    silence_the_loader();
    compute_on_this_thread_too();
    match astray::cli::run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Mesa's layer that orders devices for Wayland complains on standard error where there is no desktop. We order them
/// ourselves.
fn silence_the_loader() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Makes this thread one of those that compute. Else each of a picture's hundred kernels is handed to another
/// thread that has to be woken, and this one waits for it.
fn compute_on_this_thread_too() {
    let wanted = std::env::var("RAYON_NUM_THREADS").ok();
    let wanted = wanted.and_then(|n| n.parse().ok()).filter(|&n| n > 0);
    let threads = wanted.or_else(|| available_parallelism().ok().map(NonZero::get));
    // One alone could wait for a picture that is decoded on the threads that compute: for itself.
    if let Some(threads) = threads.filter(|&n| n > 1) {
        let pool = ThreadPoolBuilder::new().num_threads(threads);
        // Where that fails rayon makes threads of its own.
        let _ = pool.use_current_thread().build_global();
    }
}

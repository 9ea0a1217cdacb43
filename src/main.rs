use astray::cpu::aligned::Aligned;
use rayon::ThreadPoolBuilder;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;

#[global_allocator]
static MEMORY: Aligned = Aligned;

fn main() -> ExitCode {
    compute_on_this_thread_too();
    match astray::cli::run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
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

use astray::cpu::aligned::Aligned;
use std::process::ExitCode;

#[global_allocator]
static MEMORY: Aligned = Aligned;

fn main() -> ExitCode {
    match astray::cli::run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

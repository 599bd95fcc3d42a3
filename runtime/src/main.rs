//! The binary.

fn main() -> std::process::ExitCode {
    towline::cli::main()
}

//! The `kachery-p2p` command.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run()
}

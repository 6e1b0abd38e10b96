//! The `kachery-p2p` command, and those that `kachery-p2p-load` and its relatives become.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run()
}

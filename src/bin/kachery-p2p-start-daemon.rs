//! `kachery-p2p-start-daemon`: `kachery-p2p start-daemon` under a name of its own, as in the original.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run_wrapper("start-daemon")
}

//! `kachery-p2p-get-channels`: `kachery-p2p get-channels` under a name of its own, as in the original.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run_wrapper("get-channels")
}

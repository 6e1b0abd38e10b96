//! `kachery-p2p-leave-channel`: `kachery-p2p leave-channel` under a name of its own, as in the original.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run_wrapper("leave-channel")
}

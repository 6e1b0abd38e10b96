//! `kachery-p2p-find`: `kachery-p2p find-file` under a name of its own, as in the original.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run_wrapper("find-file")
}

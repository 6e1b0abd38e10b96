//! The `kachery-load` command.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::store_commands::kachery_load()
}

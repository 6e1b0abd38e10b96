//! The `kachery-store` command, and those that `kachery-load` and its relatives become.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::store_commands::run()
}

//! Arguments of `doctor`.

use clap::Args;

use super::{Format, ToMaster};

/// `doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

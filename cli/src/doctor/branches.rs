//! What is known of each branch of NVIDIA's driver. The manual page and `mrlock doctor` show the same rows.

/// A branch: the releases with the same first number.
pub struct Branch {
    /// The first number of its releases.
    pub number: u32,
    /// What was run: NVIDIA's nvidia-peermem.c and nv-p2p.c, unmodified, in a virtual machine, around a stand-in for the rest of
    /// the driver.
    pub run: &'static str,
    /// What was only read: the source of NVIDIA's open kernel modules.
    pub read: &'static str,
    /// The first release of this branch that does not free twice what a failed registration of the callback leaves.
    pub fixed: Option<&'static str>,
}

/// Nothing.
pub const NOTHING: &str = "nothing";
/// What the source of 515 to 525.89 and of 530 shows.
const READS_FREED: &str = "each deregistration reads freed memory; frees race with registrations";
/// What the source of 535.129 to 555 shows.
const RACES: &str = "frees race with registrations and deregistrations";
/// What the source of 560 to 575 shows.
const NO_CALLBACK: &str =
    "with persistent_api_support=1, the default, the registered client has no callback";
/// What the source of 580 and newer shows.
const NO_CALLBACK_AT_ALL: &str =
    "with persistent_api_support=1, the default, there is no callback, in acquire neither";

/// One row for each branch from 470 to 595.
#[rustfmt::skip] // one row, one branch
pub const BRANCHES: &[Branch] = &[
    Branch { number: 470, run: "470.256.02: double frees and uses after free if memory is freed meanwhile; none with frees kept apart",
        read: NOTHING, fixed: None },
    Branch { number: 495, run: NOTHING, read: NOTHING, fixed: None },
    Branch { number: 510, run: NOTHING, read: NOTHING, fixed: None },
    Branch { number: 515, run: "515.65: oops if memory is freed meanwhile, fine with frees kept apart; its reads of freed memory only become rarer",
        read: READS_FREED, fixed: None },
    Branch { number: 520, run: NOTHING, read: READS_FREED, fixed: None },
    Branch { number: 525, run: "525.89 and 525.147.05: oops if memory is freed meanwhile, fine with frees kept apart; 525.89's reads of freed memory only become rarer",
        read: "frees race with registrations; before 525.105, each deregistration reads freed memory; before 525.147.05, double frees",
        fixed: Some("525.147.05") },
    Branch { number: 530, run: NOTHING, read: READS_FREED, fixed: None },
    Branch { number: 535, run: "535.216.03: oops and uses after free if memory is freed meanwhile; none with frees kept apart",
        read: "frees race with registrations and deregistrations; before 535.129.03, double frees", fixed: Some("535.129.03") },
    Branch { number: 545, run: NOTHING, read: "frees race with registrations and deregistrations; before 545.29.02, double frees",
        fixed: Some("545.29.02") },
    Branch { number: 550, run: "550.163.01: oops and uses after free if memory is freed meanwhile; none with frees kept apart",
        read: RACES, fixed: None },
    Branch { number: 555, run: NOTHING, read: RACES, fixed: None },
    Branch { number: 560, run: "560.35.03 with default parameters: fine without mrlock", read: NO_CALLBACK, fixed: None },
    Branch { number: 565, run: NOTHING, read: NO_CALLBACK, fixed: None },
    Branch { number: 570, run: NOTHING, read: NO_CALLBACK, fixed: None },
    Branch { number: 575, run: NOTHING, read: NO_CALLBACK, fixed: None },
    Branch { number: 580, run: "580.95.05: fine without mrlock with default parameters; with persistent_api_support=0 it fails as the older ones do",
        read: NO_CALLBACK_AT_ALL, fixed: None },
    Branch { number: 590, run: NOTHING, read: NO_CALLBACK_AT_ALL, fixed: None },
    Branch { number: 595, run: NOTHING, read: NO_CALLBACK_AT_ALL, fixed: None },
];

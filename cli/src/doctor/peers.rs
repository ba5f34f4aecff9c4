//! The modules that use the RDMA core and are no peer client of a vendor that is unknown here. A module that registers the memory
//! of its own device calls `ib_register_peer_memory_client`, which vendors add to the RDMA core.

/// The modules that export it: ib_core and ib_uverbs have it in an OFED and in the kernels of some distributions.
pub const EXPORTERS: &[&str] = &["ib_core", "ib_uverbs", "ib_peer_mem"];

/// The users of the RDMA core in Linux and in OFED, the peer clients that have rules of their own, and the exporters.
#[rustfmt::skip]
pub const KNOWN: &[&str] = &[
    "amdgpu", "efa_nv_peermem", "nv_peer_mem", "nvidia_peermem",
    "ib_core", "ib_peer_mem", "ib_uverbs", "mlx_compat",
    // The kernel's and OFED's own.
    "ib_cm", "ib_ucm", "ib_umad", "iw_cm", "rdma_cm", "rdma_ucm", "rdmavt",
    // Drivers of RDMA devices.
    "bng_re", "bnxt_re", "efa", "erdma", "hfi1", "hns_roce", "hns_roce_hw_v2", "i40iw", "ib_ipath", "ib_mthca", "ib_qib", "ionic_rdma", "irdma",
    "iw_cxgb3", "iw_cxgb4", "mana_ib", "mlx4_ib", "mlx5_core", "mlx5_fwctl", "mlx5_ib", "mlx5_vdpa", "ocrdma", "qedr", "rdma_rxe", "siw",
    "usnic_verbs", "vmw_pvrdma",
    // What sends over RDMA.
    "9pnet_rdma", "beegfs", "cifs", "ib_ipoib", "ib_iser", "ib_isert", "ib_srp", "ib_srpt", "ko2iblnd", "ksmbd", "nvme_rdma", "nvmet_rdma",
    "opa_vnic", "rds_rdma", "rnbd_client", "rnbd_server", "rpcrdma", "rtrs_client", "rtrs_core", "rtrs_server", "smbdirect", "smc",
    "smc_diag", "svcrdma", "xprtrdma",
];

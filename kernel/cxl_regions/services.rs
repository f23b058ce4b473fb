// SPDX-License-Identifier: GPL-2.0-only

//! What the driver of a region owes the rest of the kernel, whatever the region's memory is for.
//!
//! The stock region driver does all of it in its probe; a module can reach most. What it cannot reach,
//! and why, is in docs/architecture.md.

use crate::abstractions::cxl::{
    linear_cache::MemoryErrors,
    performance::Performance,
    poison::PoisonFiles,
    region::Region, //
};
use kernel::prelude::*;

/// What is done for a region as long as this lives; for a driver to keep while the region is bound.
pub struct Services {
    _errors: Option<MemoryErrors>,
    _performance: Pin<KBox<Performance>>,
    _poison: Option<PoisonFiles>,
}

impl Services {
    /// Begins it. To be called in a probe of `region`, which must be committed.
    pub fn begin(region: &Region) -> Result<Self> {
        // Memory is as good without.
        let _ = region.register_edac();
        Ok(Self {
            _errors: MemoryErrors::of(region)?,
            _performance: KBox::pin_init(Performance::of(region)?, GFP_KERNEL)?,
            _poison: PoisonFiles::of(region)?,
        })
    }
}

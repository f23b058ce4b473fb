// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the region abstraction; see region.h. */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/wait_bit.h>
#include <cxlmem.h>
#include <cxl.h>

#include "region.h"

/* Returns whether this call locked them: firmware may have done so before. */
bool region_lock_decoders(struct cxl_region *cxlr)
{
	return !test_and_set_bit(CXL_REGION_F_LOCK, &cxlr->flags);
}

void region_unlock_decoders(struct cxl_region *cxlr)
{
	clear_bit(CXL_REGION_F_LOCK, &cxlr->flags);
}

bool region_needs_reset(const struct cxl_region *cxlr)
{
	return test_bit(CXL_REGION_F_NEEDS_RESET, &cxlr->flags);
}

struct cxl_memdev *endpoint_decoder_memdev(struct cxl_endpoint_decoder *cxled)
{
	return cxled_to_memdev(cxled);
}

/* Devices of this module that are not freed yet. */
static atomic_t subregions;

void subregion_count_get(void)
{
	atomic_inc(&subregions);
}

void subregion_count_put(void)
{
	if (atomic_dec_and_test(&subregions))
		wake_up_var(&subregions);
}

void subregion_count_wait(void)
{
	wait_var_event(&subregions, !atomic_read(&subregions));
}

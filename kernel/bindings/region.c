// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the region abstraction; see region.h. */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/debugfs.h>
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

/* To be called in a probe of the region: it is undone when the driver goes. */
int region_register_edac(struct cxl_region *cxlr)
{
	return devm_cxl_region_edac_register(cxlr);
}

/* Whether an offset in the region is more than arithmetic away from its device. */
bool region_translates_addresses(const struct cxl_region *cxlr)
{
	return cxlr->cxlrd->ops.spa_to_hpa ||
	       test_bit(CXL_REGION_F_NORMALIZED_ADDRESSING, &cxlr->flags);
}

bool memdev_takes_poison(struct cxl_memdev *cxlmd)
{
	struct cxl_memdev_state *mds = to_cxl_memdev_state(cxlmd->cxlds);

	return mds && test_bit(CXL_POISON_ENABLED_INJECT, mds->poison.enabled_cmds) &&
	       test_bit(CXL_POISON_ENABLED_CLEAR, mds->poison.enabled_cmds);
}

DEFINE_DEBUGFS_ATTRIBUTE(inject_poison_fops, NULL, region_inject_poison, "%llx\n");
DEFINE_DEBUGFS_ATTRIBUTE(clear_poison_fops, NULL, region_clear_poison, "%llx\n");

struct dentry *region_poison_files(const char *region, void *targets)
{
	struct dentry *folder = cxl_debugfs_create_dir(region);

	debugfs_create_file("inject_poison", 0200, folder, targets, &inject_poison_fops);
	debugfs_create_file("clear_poison", 0200, folder, targets, &clear_poison_fops);
	return folder;
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

// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the region abstraction; see region.h. */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/gfp.h>
#include <linux/kstrtox.h>
#include <linux/string.h>
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

static struct device_attribute *find_attribute(const struct device_type *type,
					       const char *name)
{
	for (int i = 0; type->groups[i]; i++) {
		struct attribute **attrs = type->groups[i]->attrs;

		for (int j = 0; attrs && attrs[j]; j++)
			if (!strcmp(attrs[j]->name, name))
				return container_of(attrs[j], struct device_attribute, attr);
	}
	return NULL;
}

/*
 * The core changes a region under a lock that it does not export. But it shows
 * the region under that lock too. To ask is also to wait until a change that is
 * under way is over.
 */
int region_shown(struct cxl_region *cxlr, const char *name, u64 *value)
{
	struct device_attribute *attribute = find_attribute(cxlr->dev.type, name);
	char *page;
	int rc;

	if (!attribute || !attribute->show)
		return -ENXIO;
	page = (char *)get_zeroed_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	rc = attribute->show(&cxlr->dev, attribute, page);
	if (rc >= 0)
		rc = kstrtou64(page, 0, value);
	free_page((unsigned long)page);
	return rc;
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

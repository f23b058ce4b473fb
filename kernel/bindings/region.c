// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the region abstraction; see region.h. */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kstrtox.h>
#include <linux/log2.h>
#include <linux/pci.h>
#include <linux/string.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>
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

/* Makes every driver refuse the region, as after a reset that failed half way. */
void region_distrust(struct cxl_region *cxlr)
{
	set_bit(CXL_REGION_F_NEEDS_RESET, &cxlr->flags);
}

/* Whether the hardware decodes, and the very addresses that the core thinks if @exact. */
static bool decoder_is_programmed(const struct cxl_decoder *cxld, bool exact)
{
	const struct cxl_hdm *cxlhdm = dev_get_drvdata(cxld->dev.parent);
	void __iomem *hdm = cxlhdm ? cxlhdm->regs.hdm_decoder : NULL;
	u64 base, size;
	u32 ctrl;

	/* A port that passes everything through has nothing to program. */
	if (!cxld->commit || !hdm)
		return true;
	ctrl = readl(hdm + CXL_HDM_DECODER0_CTRL_OFFSET(cxld->id));
	if (!(ctrl & CXL_HDM_DECODER0_CTRL_COMMITTED))
		return false;
	if (!exact)
		return true;
	base = readl(hdm + CXL_HDM_DECODER0_BASE_HIGH_OFFSET(cxld->id));
	base = base << 32 | readl(hdm + CXL_HDM_DECODER0_BASE_LOW_OFFSET(cxld->id));
	size = readl(hdm + CXL_HDM_DECODER0_SIZE_HIGH_OFFSET(cxld->id));
	size = size << 32 | readl(hdm + CXL_HDM_DECODER0_SIZE_LOW_OFFSET(cxld->id));
	return base == cxld->hpa_range.start && size == range_len(&cxld->hpa_range);
}

static int match_decoder_of(struct device *dev, const void *cxlr)
{
	return (is_endpoint_decoder(dev) || is_switch_decoder(dev)) &&
	       READ_ONCE(to_cxl_decoder(dev)->region) == cxlr;
}

static int match_endpoint_decoder(struct device *dev, const void *id)
{
	return is_endpoint_decoder(dev) && to_cxl_decoder(dev)->id == *(const int *)id;
}

static int match_region(struct device *dev, const void *cxlr)
{
	return is_cxl_region(dev) && container_of(dev, struct cxl_region, dev) == cxlr;
}

/*
 * The region of the n-th decoder that precedes one of the region's on the same
 * device, with a reference; the same one may come several times. An error where
 * such a decoder decodes nothing: the device counts from the end of its addresses.
 */
struct cxl_region *region_preceding(struct cxl_region *cxlr, int n)
{
	const struct cxl_region_params *p = &cxlr->params;

	for (int i = 0; i < p->nr_targets; i++) {
		struct cxl_endpoint_decoder *cxled = READ_ONCE(p->targets[i]);

		for (int id = 0; cxled && id < cxled->cxld.id; id++) {
			struct cxl_region *other;
			struct device *dev;
			bool enabled;

			dev = device_find_child(cxled->cxld.dev.parent, &id,
						match_endpoint_decoder);
			if (!dev)
				continue;
			other = READ_ONCE(to_cxl_decoder(dev)->region);
			enabled = to_cxl_decoder(dev)->flags & CXL_DECODER_F_ENABLE;
			put_device(dev);
			if (!enabled)
				return ERR_PTR(-ENXIO);
			if (!other || other == cxlr || n--)
				continue;
			dev = bus_find_device(&cxl_bus_type, NULL, other, match_region);
			/* It is just being deleted. */
			if (!dev)
				return ERR_PTR(-ENXIO);
			return container_of(dev, struct cxl_region, dev);
		}
	}
	return NULL;
}

/*
 * The n-th decoder on the way to the region's targets that has not the addresses
 * that the core thinks it has, with a reference. To be called in a probe of a
 * committed region; one on the way to several targets counts several times.
 *
 * The core takes the endpoint decoders of a region that was deleted for free,
 * and one that is still programmed for committed: that of a region that was
 * locked can be given to the next region, with the addresses of the one before.
 * A region that was found in the decoders has what they have, unless the device
 * was reset since.
 */
struct cxl_decoder *region_foreign_decoder(struct cxl_region *cxlr, int n)
{
	const struct cxl_region_params *p = &cxlr->params;
	bool exact = !test_bit(CXL_REGION_F_AUTO, &cxlr->flags);

	for (int i = 0; i < p->nr_targets; i++) {
		struct cxl_endpoint_decoder *cxled = READ_ONCE(p->targets[i]);
		struct cxl_port *port;

		if (!cxled)
			continue;
		for (port = cxled_to_port(cxled); !is_cxl_root(port);
		     port = to_cxl_port(port->dev.parent)) {
			struct device *dev;

			dev = device_find_child(&port->dev, cxlr, match_decoder_of);
			if (!dev)
				continue;
			if (!decoder_is_programmed(to_cxl_decoder(dev), exact) && !n--)
				return to_cxl_decoder(dev);
			put_device(dev);
		}
	}
	return NULL;
}

/* A locked decoder is not reset. Returns whether this call locked it. */
bool decoder_lock(struct cxl_decoder *cxld)
{
	return !test_and_set_bit(ilog2(CXL_DECODER_F_LOCK), &cxld->flags);
}

void decoder_unlock(struct cxl_decoder *cxld)
{
	clear_bit(ilog2(CXL_DECODER_F_LOCK), &cxld->flags);
}

/*
 * A device on no PCI bus, as those of cxl_test, is not reset. Returns whether
 * this call forbade it: a quirk may have done so.
 */
bool device_forbid_bus_reset(struct device *dev)
{
	struct pci_dev *pdev = dev_is_pci(dev) ? to_pci_dev(dev) : NULL;

	if (!pdev || pdev->dev_flags & PCI_DEV_FLAGS_NO_BUS_RESET)
		return false;
	pdev->dev_flags |= PCI_DEV_FLAGS_NO_BUS_RESET;
	return true;
}

void device_allow_bus_reset(struct device *dev)
{
	to_pci_dev(dev)->dev_flags &= ~PCI_DEV_FLAGS_NO_BUS_RESET;
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

struct device_attribute *find_attribute(const struct device_type *type,
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

struct region_question {
	struct work_struct work;
	struct cxl_region *cxlr;
	const char *name;
	u64 *value;
	int rc;
};

static void region_ask(struct work_struct *work)
{
	struct region_question *question = container_of(work, struct region_question, work);

	question->rc = region_shown(question->cxlr, question->name, question->value);
}

/* The same, by a worker: the core's lock is waited for whatever signals there are. */
int region_shown_unsignalled(struct cxl_region *cxlr, const char *name, u64 *value)
{
	struct region_question question = { .cxlr = cxlr, .name = name, .value = value };

	INIT_WORK_ONSTACK(&question.work, region_ask);
	queue_work(system_dfl_wq, &question.work);
	flush_work(&question.work);
	destroy_work_on_stack(&question.work);
	return question.rc;
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

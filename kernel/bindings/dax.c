// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the abstraction of DAX devices; see dax.h. */
#include <linux/cdev.h>
#include <linux/dax.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/kref.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sysfs.h>

#include <dax-private.h>

#include "dax.h"
#include "region.h"

/*
 * The driver that has the device, with a reference to its module: the driver
 * stays registered until that is given back. NULL where there is none, or where
 * it is just leaving.
 */
struct device_driver *dev_dax_driver_get(struct dev_dax *dev_dax)
{
	struct device *dev = &dev_dax->dev;
	struct device_driver *driver;

	device_lock(dev);
	driver = dev->driver;
	if (driver && !try_module_get(driver->owner))
		driver = NULL;
	device_unlock(dev);
	return driver;
}

static struct cdev *dev_dax_cdev(struct dev_dax *dev_dax)
{
	return dax_inode(dev_dax->dax_dev)->i_cdev;
}

static int refuse_open(struct inode *inode, struct file *file)
{
	return -EBUSY;
}

static const struct file_operations closed = {
	.owner = THIS_MODULE,
	.open = refuse_open,
};

/*
 * Whether somebody holds a page of a bound device, as those do who had it pinned
 * for I/O and closed it since. To unbind it would be to wait for them, for ever
 * and deaf to signals. An idle page has one reference of the map's own, or none
 * where file systems count.
 */
static bool dev_dax_is_pinned(struct dev_dax *dev_dax)
{
	const struct dev_pagemap *pgmap = dev_dax->pgmap;
	unsigned long step;
	int idle;

	if (!pgmap)
		return false;
	idle = pgmap->type == MEMORY_DEVICE_GENERIC;
	step = 1UL << pgmap->vmemmap_shift;
	for (int i = 0; i < dev_dax->nr_range; i++) {
		const struct range *range = &dev_dax->ranges[i].range;

		for (unsigned long pfn = PHYS_PFN(range->start);
		     pfn <= PHYS_PFN(range->end); pfn += step) {
			if (page_ref_count(pfn_to_page(pfn)) > idle)
				return true;
			cond_resched();
		}
	}
	return false;
}

/*
 * Lets nobody open the device any more. Returns false, and changes nothing, where
 * somebody has it open or mapped, holds a page of it, or a file system lies on it.
 *
 * Who opens a character device takes a reference to it first, and looks at its
 * operations then. So whoever still found the old ones is counted below. One
 * reference is that of the driver. Mappings are asked for as well: a driver that
 * binds makes the character device anew, and forgets who has it open.
 */
bool dev_dax_close(struct dev_dax *dev_dax, const struct file_operations **before)
{
	struct cdev *cdev = dev_dax_cdev(dev_dax);
	struct device *dev = &dev_dax->dev;
	unsigned int drivers;
	bool in_use;

	device_lock(dev);
	drivers = dev->driver ? 1 : 0;
	*before = cdev->ops;
	if (drivers) {
		WRITE_ONCE(cdev->ops, &closed);
		smp_mb();
	}
	in_use = kref_read(&cdev->kobj.kref) > drivers ||
		 mapping_mapped(dax_inode(dev_dax->dax_dev)->i_mapping) ||
		 dax_holder(dev_dax->dax_dev) ||
		 (drivers && dev_dax_is_pinned(dev_dax));
	if (in_use && drivers)
		WRITE_ONCE(cdev->ops, *before);
	device_unlock(dev);
	return !in_use;
}

/*
 * Has every driver refuse the device from here on, as one that is being removed. The
 * driver that has it keeps it.
 */
void dev_dax_retire(struct dev_dax *dev_dax)
{
	struct device *dev = &dev_dax->dev;

	device_lock(dev);
	kill_device(dev);
	device_unlock(dev);
}

/*
 * Lets nobody open the device any more, whoever has. Returns whether somebody may
 * have: without a driver it could not be opened. Its node may be there for longer
 * than this module, so that the refusal must not be a function of it.
 */
bool dev_dax_shut(struct dev_dax *dev_dax)
{
	struct device *dev = &dev_dax->dev;
	bool bound;

	device_lock(dev);
	bound = dev->driver;
	if (bound)
		WRITE_ONCE(dev_dax_cdev(dev_dax)->ops, NULL);
	device_unlock(dev);
	return bound;
}

/*
 * Takes the memory of a device that was shut from whoever has it mapped: they get
 * SIGBUS from now on. Returns false where somebody holds a page of it.
 */
bool dev_dax_revoke(struct dev_dax *dev_dax)
{
	struct device *dev = &dev_dax->dev;
	bool revoked = true;

	device_lock(dev);
	if (dev->driver) {
		kill_dax(dev_dax->dax_dev);
		unmap_mapping_range(dax_inode(dev_dax->dax_dev)->i_mapping, 0, 0, 1);
		revoked = !dev_dax_is_pinned(dev_dax);
	}
	device_unlock(dev);
	return revoked;
}

/* Undoes dev_dax_close(). A driver that was bound since has opened the device by itself. */
void dev_dax_reopen(struct dev_dax *dev_dax, const struct file_operations *before)
{
	struct cdev *cdev = dev_dax_cdev(dev_dax);
	struct device *dev = &dev_dax->dev;

	device_lock(dev);
	if (dev->driver && cdev->ops == &closed)
		WRITE_ONCE(cdev->ops, before);
	device_unlock(dev);
}

/*
 * Waits for those who tried to open a closed device and are just being refused:
 * the next driver makes the character device anew, over their references. There
 * is no event of it. Returns false where somebody is still there after a while.
 */
bool dev_dax_wait_for_latecomers(struct dev_dax *dev_dax)
{
	unsigned long deadline = jiffies + 5 * HZ;

	while (!READ_ONCE(dev_dax->dev.driver) &&
	       kref_read(&dev_dax_cdev(dev_dax)->kobj.kref)) {
		if (time_after(jiffies, deadline))
			return false;
		schedule_timeout_uninterruptible(1);
	}
	return true;
}

/*
 * Lets nobody change the ranges of a device through its files: its owner alone
 * knows which memory there is. Whoever opened one of the files before may still.
 */
int dev_dax_fix_ranges(struct dev_dax *dev_dax)
{
	struct device *dev = &dev_dax->dev;
	struct device_attribute *size = find_attribute(dev->type, "size");
	struct device_attribute *align = find_attribute(dev->type, "align");
	struct device_attribute *mapping = find_attribute(dev->type, "mapping");

	if (!size || !align || !mapping)
		return -ENXIO;
	device_remove_file(dev, mapping);
	return sysfs_chmod_file(&dev->kobj, &size->attr, 0444) ?:
	       sysfs_chmod_file(&dev->kobj, &align->attr, 0444);
}

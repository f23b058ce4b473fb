// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the abstraction of DAX devices; see dax.h. */
#include <linux/cdev.h>
#include <linux/dax.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/module.h>

#include <dax-private.h>

#include "dax.h"

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

/*
 * Whether somebody has the character device open, which covers mappings, or a
 * file system lies on it.
 *
 * A driver that binds makes the character device anew, over the references of
 * whoever still has it open. One reference is that of the driver itself.
 */
bool dev_dax_is_in_use(struct dev_dax *dev_dax)
{
	struct device *dev = &dev_dax->dev;
	unsigned int references;
	bool in_use;

	device_lock(dev);
	references = kref_read(&dax_inode(dev_dax->dax_dev)->i_cdev->kobj.kref);
	in_use = references > (dev->driver ? 1 : 0) || dax_holder(dev_dax->dax_dev);
	device_unlock(dev);
	return in_use;
}

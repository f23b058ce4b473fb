/* SPDX-License-Identifier: GPL-2.0-only */
/* What the DAX bus and the driver core offer only as inline functions. */
#ifndef REGION_DRIVERS_DAX_H
#define REGION_DRIVERS_DAX_H

#include <linux/types.h>

struct dev_dax;
struct device_driver;
struct file_operations;

struct device_driver *dev_dax_driver_get(struct dev_dax *dev_dax);
bool dev_dax_close(struct dev_dax *dev_dax, const struct file_operations **before);
void dev_dax_retire(struct dev_dax *dev_dax);
bool dev_dax_shut(struct dev_dax *dev_dax);
bool dev_dax_revoke(struct dev_dax *dev_dax);
void dev_dax_reopen(struct dev_dax *dev_dax, const struct file_operations *before);
bool dev_dax_wait_for_latecomers(struct dev_dax *dev_dax);

int dev_dax_fix_ranges(struct dev_dax *dev_dax);

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/* What the DAX bus and the driver core offer only as inline functions. */
#ifndef REGION_DRIVERS_DAX_H
#define REGION_DRIVERS_DAX_H

#include <linux/types.h>

struct dev_dax;
struct device_driver;

struct device_driver *dev_dax_driver_get(struct dev_dax *dev_dax);
bool dev_dax_is_in_use(struct dev_dax *dev_dax);

#endif

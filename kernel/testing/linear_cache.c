// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has a region look as if its first bytes were a cache of the others, and
 * reports machine checks: no emulated hardware does either.
 *
 * For the lab only. In C, and on its own: it shares no code with what is to
 * act on them.
 */
#include <linux/module.h>
#include <asm/mce.h>
#include <asm/processor.h>
#include <cxlmem.h>
#include <cxl.h>

static char *region;
module_param(region, charp, 0444);
MODULE_PARM_DESC(region, "the region");

static unsigned long cache;
module_param(cache, ulong, 0444);
MODULE_PARM_DESC(cache, "how many bytes are its cache");

static int report(const char *text, const struct kernel_param *parameter)
{
	struct mce_hw_err error = {
		.m = {
			.status = MCI_STATUS_VAL | MCI_STATUS_ADDRV | MCI_STATUS_UC,
			.cpuvendor = X86_VENDOR_UNKNOWN,
		},
	};
	int failed = kstrtou64(text, 0, &error.m.addr);

	if (!failed)
		mce_log(&error);
	return failed;
}

static const struct kernel_param_ops report_ops = { .set = report };
module_param_cb(report, &report_ops, NULL, 0200);
MODULE_PARM_DESC(report, "an address at which memory failed");

static struct cxl_region *disguised;

static int __init linear_cache_init(void)
{
	struct device *dev = bus_find_device_by_name(&cxl_bus_type, NULL, region);

	if (!dev)
		return -ENODEV;
	if (!is_cxl_region(dev)) {
		put_device(dev);
		return -EINVAL;
	}
	disguised = container_of(dev, struct cxl_region, dev);
	disguised->params.cache_size = cache;
	return 0;
}

static void __exit linear_cache_exit(void)
{
	disguised->params.cache_size = 0;
	put_device(&disguised->dev);
}

module_init(linear_cache_init);
module_exit(linear_cache_exit);

MODULE_AUTHOR("The region-drivers developers");
MODULE_DESCRIPTION("Disguises a region as one with an extended linear cache");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("CXL");

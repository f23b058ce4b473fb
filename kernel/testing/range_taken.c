// SPDX-License-Identifier: GPL-2.0-only
/*
 * Takes a range of physical addresses, so that no driver can have it.
 *
 * For the lab only. In C, and on its own: it shares no code with what it is to
 * be in the way of.
 */
#include <linux/ioport.h>
#include <linux/module.h>

static unsigned long start;
module_param(start, ulong, 0444);
MODULE_PARM_DESC(start, "the first address");

static unsigned long size;
module_param(size, ulong, 0444);
MODULE_PARM_DESC(size, "how many bytes");

static int __init range_taken_init(void)
{
	return request_mem_region(start, size, "range_taken") ? 0 : -EBUSY;
}

static void __exit range_taken_exit(void)
{
	release_mem_region(start, size);
}

module_init(range_taken_init);
module_exit(range_taken_exit);

MODULE_AUTHOR("The region-drivers developers");
MODULE_DESCRIPTION("Takes a range of physical addresses");
MODULE_LICENSE("GPL");

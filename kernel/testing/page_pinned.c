// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds a page that has a memory map, as a device does that reads or writes it
 * long after its user is gone.
 *
 * For the lab only. In C, and on its own: it shares no code with what it is to
 * be in the way of.
 */
#include <linux/mm.h>
#include <linux/module.h>

static unsigned long address;
module_param(address, ulong, 0444);
MODULE_PARM_DESC(address, "a physical address in the page");

static int __init page_pinned_init(void)
{
	unsigned long pfn = PHYS_PFN(address);

	if (!pfn_valid(pfn))
		return -ENXIO;
	get_page(pfn_to_page(pfn));
	return 0;
}

static void __exit page_pinned_exit(void)
{
	put_page(pfn_to_page(PHYS_PFN(address)));
}

module_init(page_pinned_init);
module_exit(page_pinned_exit);

MODULE_AUTHOR("The region-drivers developers");
MODULE_DESCRIPTION("Holds a page");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the machine-check abstraction; see machine_check.h. */
#include <linux/mm.h>
#include <linux/set_memory.h>
#include <asm/mce.h>

#include "machine_check.h"

/* Whether a record of a machine check names a physical address, and which. */
bool machine_check_address(void *record, u64 *address)
{
	struct mce *mce = record;

	if (!mce || !mce_usable_address(mce))
		return false;
	*address = mce->addr & MCI_ADDR_PHYSADDR;
	return true;
}

/*
 * Takes the page at an address out of use, whose content is lost, and keeps the
 * processor from reading ahead into it. Returns whether there is such a page.
 */
bool memory_give_up(u64 address)
{
	unsigned long pfn = PHYS_PFN(address);

	if (!pfn_valid(pfn))
		return false;
	if (!memory_failure(pfn, 0))
		set_mce_nospec(pfn);
	return true;
}

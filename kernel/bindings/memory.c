// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the memory-hotplug abstraction; see memory.h. */
#include <linux/cleanup.h>
#include <linux/err.h>
#include <linux/list.h>
#include <linux/memory-tiers.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mutex.h>

#include "memory.h"

/*
 * The abstract distance of memory whose platform says nothing about it: that
 * of a persistent-memory class device, five times that of DRAM.
 */
#define DEFAULT_ADISTANCE	(MEMTIER_ADISTANCE_DRAM * 5)

static DEFINE_MUTEX(memory_types_lock);
static LIST_HEAD(memory_types);

/*
 * Blocks are onlined and offlined whole, under the hotplug lock, so one page
 * speaks for its block. The last one is asked: the first pages of a block may
 * hold its own memory map and are then not part of what is onlined.
 */
enum memory_block_truth memory_block_truth(u64 start, u64 size)
{
	unsigned long pfn = PHYS_PFN(start + size - 1);
	struct page *page = pfn_to_online_page(pfn);

	if (page)
		return page_zonenum(page) == ZONE_MOVABLE ?
			MEMORY_BLOCK_MOVABLE : MEMORY_BLOCK_KERNEL;
	return pfn_valid(pfn) ? MEMORY_BLOCK_OFFLINE : MEMORY_BLOCK_ABSENT;
}

/* For MEM_GOING_ONLINE, when the pages already carry the zone they go to. */
bool memory_pfn_is_movable(unsigned long pfn)
{
	return page_zonenum(pfn_to_page(pfn)) == ZONE_MOVABLE;
}

struct memory_dev_type *memory_tier_type_get(int node)
{
	int adistance = DEFAULT_ADISTANCE;

	mt_calc_adistance(node, &adistance);
	guard(mutex)(&memory_types_lock);
	return mt_find_alloc_memory_type(adistance, &memory_types);
}

void memory_tier_types_put(void)
{
	guard(mutex)(&memory_types_lock);
	mt_put_memory_types(&memory_types);
}

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the memory-hotplug headers offer only as inline functions or macros, or
 * in the shape of a C list: the Rust side cannot call those.
 */
#ifndef REGION_DRIVERS_MEMORY_H
#define REGION_DRIVERS_MEMORY_H

#include <linux/types.h>

struct memory_dev_type;
struct memory_removal;
struct range;

/* What the last page of a memory block says of the whole block. */
enum memory_block_truth {
	MEMORY_BLOCK_ABSENT,	/* no memory map: nobody added this block */
	MEMORY_BLOCK_OFFLINE,	/* added, not online */
	MEMORY_BLOCK_KERNEL,	/* online in a zone of the kernel */
	MEMORY_BLOCK_MOVABLE,	/* online in ZONE_MOVABLE */
};

enum memory_block_truth memory_block_truth(u64 start, u64 size);
bool memory_pfn_is_movable(unsigned long pfn);

unsigned int memory_poison_used(u64 start, u64 size);
unsigned long memory_used_pages(u64 start, u64 size);

bool memory_signals_reach_current(void);
struct memory_removal *memory_removal_begin(const struct range *ranges, unsigned int count);
int memory_removal_wait(struct memory_removal *removal, unsigned int seconds, bool heeds_signals);
void memory_removal_interrupt(struct memory_removal *removal);
int memory_removal_result(const struct memory_removal *removal);
void memory_removal_end(struct memory_removal *removal);

struct memory_dev_type *memory_tier_type_get(int node);
void memory_tier_types_put(void);

#endif

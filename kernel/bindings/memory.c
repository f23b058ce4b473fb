// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of the memory-hotplug abstraction; see memory.h. */
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/memory-tiers.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/range.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

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

/* How many pages of what is online in a range somebody uses, at this moment. */
unsigned long memory_used_pages(u64 start, u64 size)
{
	unsigned long end = PHYS_PFN(start + size);
	unsigned long count = 0;

	for (unsigned long pfn = PHYS_PFN(start); pfn < end; pfn++) {
		struct page *page = pfn_to_online_page(pfn);

		cond_resched();
		if (page && page_ref_count(page))
			count++;
	}
	return count;
}

/*
 * Tells the users of a range that its contents are lost: processes get SIGBUS
 * where they touch it, readers of files EIO. Pages that are free are left alone.
 * The caller keeps the range from being removed. Returns how many pages it were;
 * those are poisoned, and process tables may name them from now on.
 */
unsigned int memory_poison_used(u64 start, u64 size)
{
	unsigned long end = PHYS_PFN(start + size);
	const struct folio *poisoned = NULL;
	unsigned int count = 0;

	for (unsigned long pfn = PHYS_PFN(start); pfn < end; pfn++) {
		struct page *page = pfn_to_online_page(pfn);

		cond_resched();
		if (!page || !page_count(page) || PageReserved(page))
			continue;
		/* The first page of a huge one marks all of them; those that are lost have to be told each, once. */
		if (is_page_hwpoison(page) && page_folio(page) != poisoned)
			continue;
		poisoned = page_folio(page);
		/* That it cannot be taken from its users is logged, and it is poisoned all the same. */
		memory_failure(pfn, 0);
		count++;
	}
	return count;
}

/* Nobody can interrupt a kernel thread. */
bool memory_signals_reach_current(void)
{
	return !(current->flags & PF_KTHREAD);
}

struct memory_removal {
	const struct range *ranges;
	unsigned int count;
	struct task_struct *thread;
	struct completion done;
	bool interrupted;
	int result;
};

static int memory_removal_thread(void *argument)
{
	struct memory_removal *removal = argument;

	allow_signal(SIGINT);
	/* A signal that came before that is lost. */
	if (READ_ONCE(removal->interrupted))
		removal->result = -EINTR;
	else
		removal->result = offline_and_remove_memory_ranges(removal->ranges,
								   removal->count);
	complete_all(&removal->done);
	/* The thread's end is waited for: it runs code of this module. */
	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

struct memory_removal_creation {
	struct work_struct work;
	struct memory_removal *removal;
};

/*
 * Whoever makes a thread waits for it, and gives up where he was killed. But what
 * somebody has begun is undone after he was killed as well. Nobody kills a worker.
 */
static void memory_removal_create(struct work_struct *work)
{
	struct memory_removal_creation *creation =
		container_of(work, struct memory_removal_creation, work);
	struct memory_removal *removal = creation->removal;

	removal->thread = kthread_create(memory_removal_thread, removal, "kmem-removal");
}

/* The ranges must stay until memory_removal_end(). */
struct memory_removal *memory_removal_begin(const struct range *ranges, unsigned int count)
{
	struct memory_removal *removal = kzalloc_obj(*removal);
	struct memory_removal_creation creation = { .removal = removal };
	struct task_struct *thread;

	if (!removal)
		return ERR_PTR(-ENOMEM);
	removal->ranges = ranges;
	removal->count = count;
	init_completion(&removal->done);
	INIT_WORK_ONSTACK(&creation.work, memory_removal_create);
	queue_work(system_dfl_wq, &creation.work);
	flush_work(&creation.work);
	destroy_work_on_stack(&creation.work);
	thread = removal->thread;
	if (IS_ERR(thread)) {
		kfree(removal);
		return ERR_CAST(thread);
	}
	wake_up_process(thread);
	return removal;
}

/*
 * Returns 0 once it is done, -ETIMEDOUT after so many seconds (0: never), and
 * -EINTR where a signal came to whoever waits, if he heeds signals.
 */
int memory_removal_wait(struct memory_removal *removal, unsigned int seconds, bool heeds_signals)
{
	long timeout = seconds ? (long)seconds * HZ : MAX_SCHEDULE_TIMEOUT;

	if (heeds_signals)
		timeout = wait_for_completion_interruptible_timeout(&removal->done, timeout);
	else
		timeout = wait_for_completion_timeout(&removal->done, timeout);
	if (timeout < 0)
		return -EINTR;
	return timeout ? 0 : -ETIMEDOUT;
}

void memory_removal_interrupt(struct memory_removal *removal)
{
	WRITE_ONCE(removal->interrupted, true);
	send_sig(SIGINT, removal->thread, 1);
}

/* To be called once it is done. */
int memory_removal_result(const struct memory_removal *removal)
{
	return removal->result;
}

/* Waits until it is done. */
void memory_removal_end(struct memory_removal *removal)
{
	kthread_stop(removal->thread);
	kfree(removal);
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

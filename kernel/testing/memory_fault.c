// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refuses to bring one chosen memory block online or offline, or holds it up.
 *
 * memory-notifier-error-inject refuses every block; a transition that fails in
 * its middle wants one, and so does who wants to meet one in its middle. For the lab only. In C, and on its own: it shares no
 * code with what it is to break.
 */
#include <linux/delay.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>

static unsigned long refuse_online;
module_param(refuse_online, ulong, 0644);
MODULE_PARM_DESC(refuse_online, "a physical address in the block that may not go online (0: none)");

static unsigned long refuse_offline;
module_param(refuse_offline, ulong, 0644);
MODULE_PARM_DESC(refuse_offline, "a physical address in the block that may not go offline (0: none)");

static unsigned long pause_online;
module_param(pause_online, ulong, 0644);
MODULE_PARM_DESC(pause_online, "a physical address in the block that waits before it goes online, until this is another (0: none)");

static bool paused;
module_param(paused, bool, 0444);
MODULE_PARM_DESC(paused, "whether a block is waiting");

static bool is_in_block(unsigned long address, const struct memory_notify *notify)
{
	/* The first pages of a block may be its own memory map, and not be told of. */
	return address && address / memory_block_size_bytes() ==
			  PFN_PHYS(notify->start_pfn) / memory_block_size_bytes();
}

static int memory_fault_call(struct notifier_block *block, unsigned long action, void *argument)
{
	const struct memory_notify *notify = argument;
	unsigned long address;

	switch (action) {
	case MEM_GOING_ONLINE:
		while (is_in_block(READ_ONCE(pause_online), notify)) {
			paused = true;
			msleep(1);
		}
		paused = false;
		address = READ_ONCE(refuse_online);
		break;
	case MEM_GOING_OFFLINE:
		address = READ_ONCE(refuse_offline);
		break;
	default:
		return NOTIFY_DONE;
	}
	return is_in_block(address, notify) ? notifier_from_errno(-ENOMEM) : NOTIFY_DONE;
}

static struct notifier_block memory_fault = {
	.notifier_call = memory_fault_call,
};

static int __init memory_fault_init(void)
{
	return register_memory_notifier(&memory_fault);
}

static void __exit memory_fault_exit(void)
{
	unregister_memory_notifier(&memory_fault);
}

module_init(memory_fault_init);
module_exit(memory_fault_exit);

MODULE_AUTHOR("The region-drivers developers");
MODULE_DESCRIPTION("Refuses to bring one chosen memory block online or offline, or holds it up");
MODULE_LICENSE("GPL");

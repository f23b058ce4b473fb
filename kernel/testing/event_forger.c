// SPDX-License-Identifier: GPL-2.0-only
/*
 * Puts records into a memdev's event log of dynamic capacity that the device
 * never wrote: what a device that is broken, or a fabric that means harm, could
 * make it write, and QEMU's does not. They come before the device's own, and
 * all answers to offers are for them.
 *
 * For the lab only.
 */
#include <linux/device.h>
#include <linux/hex.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/unaligned.h>
#include <cxlmem.h>
#include <cxl.h>

static char *memdev;
module_param(memdev, charp, 0444);
MODULE_PARM_DESC(memdev, "the memdev, such as mem0");

static char *records;
module_param(records, charp, 0444);
MODULE_PARM_DESC(records, "the records, 128 bytes each, in hexadecimal");

/* CXL 3.1, 8.2.9.2.2, 8.2.9.2.3 and 8.2.9.9.9.3. */
#define GET_EVENT_RECORDS	0x0100
#define CLEAR_EVENT_RECORDS	0x0101
#define ADD_RESPONSE		0x4802
#define LOG			4
#define HEADER			32
#define RECORD			128

/* The device counts its handles from 1. */
#define FIRST_HANDLE		0xf000

static u8 forged[16][RECORD];
static unsigned int count, cleared;
static DEFINE_MUTEX(forged_lock);
static struct device *dev;
static int (*send)(struct cxl_mailbox *mailbox, struct cxl_mbox_cmd *command);

static int get_records(struct cxl_mbox_cmd *command)
{
	size_t room = command->size_out < HEADER ? 0 : (command->size_out - HEADER) / RECORD;
	unsigned int n = min_t(size_t, room, count - cleared);
	u8 *answer = command->payload_out;

	memset(answer, 0, HEADER);
	put_unaligned_le16(n, answer + 20);
	memcpy(answer + HEADER, forged[cleared], n * RECORD);
	command->size_out = HEADER + n * RECORD;
	command->return_code = CXL_MBOX_CMD_RC_SUCCESS;
	return 0;
}

static int forger_send(struct cxl_mailbox *mailbox, struct cxl_mbox_cmd *command)
{
	const u8 *request = command->payload_in;

	guard(mutex)(&forged_lock);
	/* The device waits for no answer. */
	if (command->opcode == ADD_RESPONSE && command->size_in >= 4) {
		dev_info(dev, "forged: answered with %u extents\n", get_unaligned_le32(request));
		command->return_code = CXL_MBOX_CMD_RC_SUCCESS;
		return 0;
	}
	if (cleared < count && command->size_in && request[0] == LOG) {
		if (command->opcode == GET_EVENT_RECORDS)
			return get_records(command);
		if (command->opcode == CLEAR_EVENT_RECORDS && command->size_in >= 8 &&
		    get_unaligned_le16(request + 6) >= FIRST_HANDLE) {
			cleared += min_t(unsigned int, request[2], count - cleared);
			command->return_code = CXL_MBOX_CMD_RC_SUCCESS;
			return 0;
		}
	}
	return send(mailbox, command);
}

static struct cxl_mailbox *mailbox_of(struct device *device)
{
	return &to_cxl_memdev(device)->cxlds->cxl_mbox;
}

static int __init event_forger_init(void)
{
	size_t length = records ? strlen(records) : 0;

	if (!memdev || !length || length % (2 * RECORD) || length / (2 * RECORD) > ARRAY_SIZE(forged))
		return -EINVAL;
	count = length / (2 * RECORD);
	if (hex2bin((u8 *)forged, records, length / 2))
		return -EINVAL;
	for (unsigned int n = 0; n < count; n++)
		put_unaligned_le16(FIRST_HANDLE + n, forged[n] + 20);
	dev = bus_find_device_by_name(&cxl_bus_type, NULL, memdev);
	if (!dev)
		return -ENODEV;
	send = mailbox_of(dev)->mbox_send;
	WRITE_ONCE(mailbox_of(dev)->mbox_send, forger_send);
	return 0;
}

static void __exit event_forger_exit(void)
{
	WRITE_ONCE(mailbox_of(dev)->mbox_send, send);
	/* Whoever is inside is waited for. */
	synchronize_rcu_tasks();
	put_device(dev);
}

module_init(event_forger_init);
module_exit(event_forger_exit);

MODULE_AUTHOR("The region-drivers developers");
MODULE_DESCRIPTION("Forges events of dynamic capacity");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("CXL");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tells a memdev that the host gives an extent back, behind the drivers' back:
 * to them it is as if the fabric had taken it without asking.
 *
 * For the lab only: QEMU's monitor has no forced release. In C, and on its own:
 * it shares no code with what it is to surprise.
 */
#include <linux/device.h>
#include <linux/module.h>
#include <linux/unaligned.h>
#include <cxlmem.h>
#include <cxl.h>

static char *memdev;
module_param(memdev, charp, 0444);
MODULE_PARM_DESC(memdev, "the memdev, such as mem0");

static unsigned long address;
module_param(address, ulong, 0444);
MODULE_PARM_DESC(address, "the first of the device's addresses");

static unsigned long size;
module_param(size, ulong, 0444);
MODULE_PARM_DESC(size, "how many bytes");

static int __init extent_thief_init(void)
{
	/* Release Dynamic Capacity (CXL 3.1, 8.2.9.9.9.4): one range. */
	u8 payload[32] = { 1 };
	struct cxl_mbox_cmd command = {
		.opcode = 0x4803,
		.payload_in = payload,
		.size_in = sizeof(payload),
	};
	struct device *dev;
	int rc;

	put_unaligned_le64(address, payload + 8);
	put_unaligned_le64(size, payload + 16);
	dev = bus_find_device_by_name(&cxl_bus_type, NULL, memdev);
	if (!dev)
		return -ENODEV;
	rc = cxl_internal_send_cmd(&to_cxl_memdev(dev)->cxlds->cxl_mbox, &command);
	put_device(dev);
	return rc;
}

static void __exit extent_thief_exit(void)
{
}

module_init(extent_thief_init);
module_exit(extent_thief_exit);

MODULE_AUTHOR("The region-drivers developers");
MODULE_DESCRIPTION("Gives an extent back behind the drivers' back");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("CXL");

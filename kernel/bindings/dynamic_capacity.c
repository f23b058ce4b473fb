// SPDX-License-Identifier: GPL-2.0-only
/* C helpers of dynamic capacity; see dynamic_capacity.h. */
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>
#include <cxlmem.h>
#include <cxl.h>

#include "dynamic_capacity.h"
#include "region.h"

u64 memdev_serial(const struct cxl_memdev *cxlmd)
{
	return cxlmd->cxlds->serial;
}

size_t memdev_payload_size(const struct cxl_memdev *cxlmd)
{
	return cxlmd->cxlds->cxl_mbox.payload_size;
}

/*
 * Returns 0 if the device replied with success; @out_size is then what it
 * wrote. Where the device refused, its own code is in @return_code; else that
 * is 0 and nobody knows whether it heard.
 */
int memdev_send(struct cxl_memdev *cxlmd, u16 opcode, const void *in,
		size_t in_size, void *out, size_t *out_size, u16 *return_code)
{
	struct cxl_mbox_cmd command = {
		.opcode = opcode,
		.payload_in = (void *)in,
		.size_in = in_size,
		.payload_out = out,
		.size_out = *out_size,
		.min_out = 1,
	};
	int rc = cxl_internal_send_cmd(&cxlmd->cxlds->cxl_mbox, &command);

	*out_size = command.size_out;
	*return_code = command.return_code;
	return rc;
}

u32 memdev_event_status(const struct cxl_memdev *cxlmd)
{
	return readl(cxlmd->cxlds->regs.status + CXLDEV_DEV_EVENT_STATUS_OFFSET);
}

struct device *memdev_pci_device(const struct cxl_memdev *cxlmd)
{
	return cxlmd->cxlds->dev;
}

int memdev_vector(const struct cxl_memdev *cxlmd, unsigned int number)
{
	struct device *dev = cxlmd->cxlds->dev;

	return dev_is_pci(dev) ? pci_irq_vector(to_pci_dev(dev), number) : -ENXIO;
}

static ssize_t store(struct device *dev, const char *name, const char *text,
		     size_t length)
{
	struct device_attribute *attribute = find_attribute(dev->type, name);

	if (!attribute || !attribute->store)
		return -ENXIO;
	return attribute->store(dev, attribute, text, length);
}

/* The number that the core gives to the next region below @root, or an error. */
int root_decoder_next_region(struct device *root)
{
	struct device_attribute *attribute = find_attribute(root->type, "create_ram_region");
	char *page;
	int id;

	if (!attribute || !attribute->show)
		return -ENXIO;
	page = (char *)get_zeroed_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	attribute->show(root, attribute, page);
	if (sscanf(page, "region%d", &id) != 1)
		id = -ENXIO;
	free_page((unsigned long)page);
	return id;
}

/*
 * The core makes regions of its own two kinds only. So one for RAM is made, and
 * becomes one for dynamic capacity before it has any addresses: without those
 * no decoder can be attached. The core looks at the mode and changes the
 * addresses under the same lock, under which it also shows the size.
 */
int root_decoder_create_dc_region(struct device *root, const char *text, size_t length)
{
	const unsigned long needed = CXL_DECODER_F_RAM | CXL_DECODER_F_TYPE3;
	struct cxl_region *cxlr;
	struct device *dev;
	char name[16];
	ssize_t rc;
	u64 size;
	int id;

	/* The core shows its files where they may be used, and checks no more. */
	if (!is_root_decoder(root) || (to_cxl_decoder(root)->flags & needed) != needed)
		return -EOPNOTSUPP;
	rc = store(root, "create_ram_region", text, length);
	if (rc < 0)
		return rc;
	if (sscanf(text, "region%d", &id) != 1)
		return -EINVAL;
	snprintf(name, sizeof(name), "region%d", id);
	dev = device_find_child_by_name(root, name);
	if (!dev)
		return -EBUSY;
	cxlr = container_of(dev, struct cxl_region, dev);
	WRITE_ONCE(cxlr->mode, DYNAMIC_CAPACITY_MODE);
	rc = region_shown(cxlr, "size", &size);
	if (!rc && size)
		rc = -EBUSY;
	if (rc)
		store(root, "delete_region", name, strlen(name));
	put_device(dev);
	return rc;
}

static DEFINE_MUTEX(partitions_lock);

/*
 * A device without partitions looks to the core as if the first were RAM, with a
 * class of service of its own; ram/qos_class is there, and reading it kills the
 * kernel once the first partition is something else. The core looks whether to
 * show it when an endpoint is probed, and does not show a class that is not
 * valid. Whoever just reads it is waited for.
 */
static void hide_ram_class(struct cxl_dev_state *cxlds)
{
	static const struct attribute qos_class = { .name = "qos_class" };

	WRITE_ONCE(cxlds->part[0].perf.qos_class, CXL_QOS_CLASS_INVALID);
	sysfs_remove_file_from_group(&cxlds->cxlmd->dev.kobj, &qos_class, "ram");
}

/*
 * The partition of dynamic capacity, which the core does not make: it comes
 * after those that it made. Those who look at partitions count them first, so
 * that one more is seen when it is complete. Returns its index.
 */
static int dynamic_capacity_partition(struct cxl_dev_state *cxlds, u64 start, u64 size)
{
	struct cxl_dpa_info info = {
		.size = start + size,
		.part[0] = {
			.range = { .start = start, .end = start + size - 1 },
			.mode = DYNAMIC_CAPACITY_MODE,
		},
		.nr_partitions = 1,
	};
	int index = cxlds->nr_partitions;
	struct resource *res;
	const char *name;
	int rc;

	for (int i = 0; i < index; i++)
		if (cxlds->part[i].mode == DYNAMIC_CAPACITY_MODE)
			return i;
	if (!cxlds->media_ready)
		return -ENXIO;
	if (index >= CXL_NR_PARTITIONS_MAX)
		return -EOPNOTSUPP;
	/* The core takes skipped addresses for those of a partition. */
	if (start != (index ? cxlds->part[index - 1].res.end + 1 : 0))
		return -EOPNOTSUPP;
	/* A decoder that was programmed before this kernel has addresses that are in no partition. */
	if (!index && cxlds->dpa_res.child)
		return -EBUSY;

	/* The core shows it as long as the device is there, which may be longer than this module. */
	name = kstrdup("dynamic_ram_a", GFP_KERNEL);
	if (!name)
		return -ENOMEM;
	res = &cxlds->part[index].res;
	if (!index) {
		hide_ram_class(cxlds);
		rc = cxl_dpa_setup(cxlds, &info);
		if (!rc)
			res->name = name;
		/* Should the core just have begun to show it. */
		hide_ram_class(cxlds);
	} else {
		cxlds->part[index].perf.qos_class = CXL_QOS_CLASS_INVALID;
		cxlds->part[index].mode = DYNAMIC_CAPACITY_MODE;
		*res = (struct resource) {
			.name = name,
			.start = start,
			.end = start + size - 1,
			.flags = IORESOURCE_MEM,
		};
		cxlds->dpa_res.end = res->end;
		rc = request_resource(&cxlds->dpa_res, res);
		if (!rc)
			smp_store_release(&cxlds->nr_partitions, index + 1);
	}
	if (rc) {
		kfree(name);
		return rc;
	}
	return index;
}

/*
 * Has the endpoint decoder called @decoder take its capacity from the dynamic
 * capacity of @cxlmd, which lies at @start. That is for a decoder that has none
 * yet; should it get some meanwhile, endpoint_decoder_is_dynamic() tells.
 */
int memdev_choose_dynamic_capacity(struct cxl_memdev *cxlmd, const char *decoder,
				   u64 start, u64 size)
{
	struct cxl_endpoint_decoder *cxled;
	struct device *dev;
	int rc;

	dev = bus_find_device_by_name(&cxl_bus_type, NULL, decoder);
	if (!dev)
		return -ENODEV;
	rc = -ENODEV;
	if (!is_endpoint_decoder(dev))
		goto out;
	cxled = to_cxl_endpoint_decoder(dev);
	if (cxled_to_memdev(cxled) != cxlmd)
		goto out;
	mutex_lock(&partitions_lock);
	rc = dynamic_capacity_partition(cxlmd->cxlds, start, size);
	if (rc >= 0) {
		if (cxled->dpa_res || cxled->cxld.flags & CXL_DECODER_F_ENABLE) {
			rc = -EBUSY;
		} else {
			WRITE_ONCE(cxled->part, rc);
			rc = 0;
		}
	}
	mutex_unlock(&partitions_lock);
out:
	put_device(dev);
	return rc;
}

/* Whether all that the decoder of a committed region maps is dynamic capacity. */
bool endpoint_decoder_is_dynamic(struct cxl_endpoint_decoder *cxled)
{
	struct cxl_dev_state *cxlds = cxled_to_memdev(cxled)->cxlds;

	for (int i = 0; i < cxlds->nr_partitions; i++)
		if (cxlds->part[i].mode == DYNAMIC_CAPACITY_MODE)
			return resource_contains(&cxlds->part[i].res, cxled->dpa_res);
	return false;
}

bool device_lock_try(struct device *dev)
{
	return device_trylock(dev);
}

void device_lock_wait(struct device *dev)
{
	device_lock(dev);
}

void device_lock_release(struct device *dev)
{
	device_unlock(dev);
}

void worker_init(struct delayed_work *work, work_func_t run)
{
	INIT_DELAYED_WORK(work, run);
}

/* Moving memory takes long: not on a queue for short work. */
void worker_queue(struct delayed_work *work, unsigned int milliseconds)
{
	queue_delayed_work(system_dfl_long_wq, work,
			   msecs_to_jiffies(milliseconds));
}

void worker_hurry(struct delayed_work *work)
{
	mod_delayed_work(system_dfl_long_wq, work, 0);
}

struct delayed_work *worker_of(struct work_struct *work)
{
	return to_delayed_work(work);
}

u64 milliseconds_now(void)
{
	return ktime_to_ms(ktime_get());
}

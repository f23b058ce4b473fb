/* SPDX-License-Identifier: GPL-2.0-only */
/* What the CXL core and the kernel offer only as inline functions or macros. */
#ifndef REGION_DRIVERS_DYNAMIC_CAPACITY_H
#define REGION_DRIVERS_DYNAMIC_CAPACITY_H

#include <linux/types.h>
#include <linux/workqueue.h>

struct cxl_endpoint_decoder;
struct cxl_memdev;
struct cxl_region;
struct device;

/* For a memdev that is bound to its driver. */
u64 memdev_serial(const struct cxl_memdev *cxlmd);
size_t memdev_payload_size(const struct cxl_memdev *cxlmd);
int memdev_send(struct cxl_memdev *cxlmd, u16 opcode, const void *in,
		size_t in_size, void *out, size_t *out_size, u16 *return_code);
u32 memdev_event_status(const struct cxl_memdev *cxlmd);
struct device *memdev_pci_device(const struct cxl_memdev *cxlmd);
int memdev_vector(const struct cxl_memdev *cxlmd, unsigned int number);

/*
 * The number of the partition mode that stands for dynamic capacity, which the
 * CXL core does not know.
 */
#define DYNAMIC_CAPACITY_MODE 2

int root_decoder_next_region(struct device *root);
int root_decoder_create_dc_region(struct device *root, const char *text, size_t length);
int memdev_choose_dynamic_capacity(struct cxl_memdev *cxlmd, const char *decoder,
				   u64 start, u64 size);
bool endpoint_decoder_is_dynamic(struct cxl_endpoint_decoder *cxled);

bool device_lock_try(struct device *dev);
void device_lock_wait(struct device *dev);
void device_lock_release(struct device *dev);

void worker_init(struct delayed_work *work, work_func_t run);
void worker_queue(struct delayed_work *work, unsigned int milliseconds);
void worker_hurry(struct delayed_work *work);
struct delayed_work *worker_of(struct work_struct *work);

u64 milliseconds_now(void);

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/* What drivers/cxl/cxl.h and cxlmem.h offer only as inline functions. */
#ifndef REGION_DRIVERS_REGION_H
#define REGION_DRIVERS_REGION_H

#include <linux/types.h>

struct cxl_decoder;
struct cxl_endpoint_decoder;
struct cxl_memdev;
struct cxl_region;
struct dentry;
struct device;
struct device_attribute;
struct device_type;

struct device_attribute *find_attribute(const struct device_type *type,
					const char *name);

bool region_lock_decoders(struct cxl_region *cxlr);
void region_unlock_decoders(struct cxl_region *cxlr);
struct cxl_memdev *endpoint_decoder_memdev(struct cxl_endpoint_decoder *cxled);
bool region_needs_reset(const struct cxl_region *cxlr);
void region_distrust(struct cxl_region *cxlr);
struct cxl_region *region_preceding(struct cxl_region *cxlr, int n);
struct cxl_decoder *region_foreign_decoder(struct cxl_region *cxlr, int n);
bool decoder_lock(struct cxl_decoder *cxld);
void decoder_unlock(struct cxl_decoder *cxld);
bool device_forbid_bus_reset(struct device *dev);
void device_allow_bus_reset(struct device *dev);
int region_shown(struct cxl_region *cxlr, const char *name, u64 *value);
int region_shown_unsignalled(struct cxl_region *cxlr, const char *name, u64 *value);
int region_register_edac(struct cxl_region *cxlr);
bool region_translates_addresses(const struct cxl_region *cxlr);

bool memdev_takes_poison(struct cxl_memdev *cxlmd);
struct dentry *region_poison_files(const char *region, void *targets);
/* In Rust: what is done with an offset that is written to one of those files. */
int region_inject_poison(void *targets, u64 offset);
int region_clear_poison(void *targets, u64 offset);

void subregion_count_get(void);
void subregion_count_put(void);
void subregion_count_wait(void);

#endif

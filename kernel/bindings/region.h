/* SPDX-License-Identifier: GPL-2.0-only */
/* What drivers/cxl/cxl.h and cxlmem.h offer only as inline functions. */
#ifndef REGION_DRIVERS_REGION_H
#define REGION_DRIVERS_REGION_H

#include <linux/types.h>

struct cxl_endpoint_decoder;
struct cxl_memdev;
struct cxl_region;

bool region_lock_decoders(struct cxl_region *cxlr);
void region_unlock_decoders(struct cxl_region *cxlr);
struct cxl_memdev *endpoint_decoder_memdev(struct cxl_endpoint_decoder *cxled);
bool region_needs_reset(const struct cxl_region *cxlr);

void subregion_count_get(void);
void subregion_count_put(void);
void subregion_count_wait(void);

#endif

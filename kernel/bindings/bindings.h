/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the modules need of the kernel beyond the bindings of the `kernel`
 * crate. bindgen reads this file; kernel/bindings/allowlist.txt selects.
 */
#include <linux/dax.h>
#include <linux/device.h>
#include <linux/ioport.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/memory-tiers.h>
#include <linux/memregion.h>
#include <linux/module.h>
#include <linux/node.h>
#include <linux/notifier.h>
#include <linux/range.h>
#include <linux/sysfs.h>
#include <asm/mce.h>

#include <cxlmem.h>
#include <cxl.h>
#include <dax-private.h>
#include <bus.h>

#include "dax.h"
#include "dynamic_capacity.h"
#include "machine_check.h"
#include "memory.h"
#include "region.h"

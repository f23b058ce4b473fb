/* SPDX-License-Identifier: GPL-2.0-only */
/* What machine checks and bad pages offer only as inline functions or macros. */
#ifndef REGION_DRIVERS_MACHINE_CHECK_H
#define REGION_DRIVERS_MACHINE_CHECK_H

#include <linux/types.h>

bool machine_check_address(void *record, u64 *address);
bool memory_give_up(u64 address);

#endif

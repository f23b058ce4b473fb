# SPDX-License-Identifier: MIT OR Apache-2.0
# In a private mount namespace: gives the tree what a chroot needs, shows it the directory "$2" (where there is one) as
# /work, and runs the rest of the arguments inside.
set -eu
tree=$1 work=$2
shift 2
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
if [ -n "$work" ]; then
    mkdir -p "$tree/work"
    mount --bind "$work" "$tree/work"
fi
# What is built depends on the tree alone: nothing of the caller's environment, cargo's and make's words in it, gets in.
exec chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"

# SPDX-License-Identifier: MIT OR Apache-2.0
# Inside the tree: builds the modules out of a copy of their sources in memory, so that nothing but the results is ever
# written. Arguments: kernel release, prepared kernel source, results directory, further words for make.
set -eu
release=$1 source=$2 results=$3
shift 3
export LC_ALL=C.UTF-8 KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=lab
mkdir -p /tmp/build
cp -a /work/. /tmp/build/
make -C "$source" -j"$(nproc)" KERNELRELEASE="$release" M=/tmp/build/kernel REGION_TESTING=m "$@" modules
mkdir -p "$results"
find /tmp/build/kernel -name '*.ko' -exec cp -t "$results" {} +
# As a distribution's modules are: what a debugger reads is nine tenths of them, and every boot unpacks it.
strip --strip-debug "$results"/*.ko
# A module directory as the guest will have it, for depmod to index: ours are preferred because they lie in updates/.
modules=/tmp/root/usr/lib/modules/$release
mkdir -p "$modules"
cp -a "/usr/lib/modules/$release/kernel" "/usr/lib/modules/$release"/modules.builtin* "/usr/lib/modules/$release/modules.order" "$modules"
mkdir "$modules/updates"
cp "$results"/*.ko "$modules/updates"
ln -s usr/lib /tmp/root/lib
depmod -b /tmp/root "$release"
mkdir "$results/index"
cp "$modules"/modules.* "$results/index"

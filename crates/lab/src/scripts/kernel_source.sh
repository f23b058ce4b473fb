# SPDX-License-Identifier: MIT OR Apache-2.0
# Inside the tree: unpacks the distribution's kernel source and brings it to the state in which the distribution built
# its own modules, Rust metadata included. Arguments: kernel release, source archive, directory to make.
set -eu
release=$1 archive=$2 source=$3
headers=/usr/src/linux-headers-$release
export LC_ALL=C.UTF-8 KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=lab
mkdir -p "$source"
# What fills most of the archive is drivers, which no module of ours is built against.
tar -xf "$archive" --strip-components=1 -C "$source" \
    --exclude='*/drivers/gpu/*.[ch]' --exclude='*/drivers/net/*.[ch]' --exclude='*/sound/*.[ch]'
cd "$source"
cp "$headers/.config" "$headers/Module.symvers" .
make olddefconfig
# Type information for BPF would go from the kernel's image into modules; there is no such image here, and the tool for it
# takes as long to build as all other tools together.
make -j"$(nproc)" KERNELRELEASE="$release" CONFIG_DEBUG_INFO_BTF= modules_prepare
# The release string is the distribution's, not one that the build makes up from the source.
cp "$headers/include/config/kernel.release" include/config/
cp "$headers/include/generated/utsrelease.h" include/generated/

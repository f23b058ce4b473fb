# SPDX-License-Identifier: MIT OR Apache-2.0
# Inside the tree: builds a kernel that watches itself from the distribution's source, installs it beside the
# distribution's own, and leaves the source as modules need it. Arguments: release to give it, source archive, directory
# to make, configuration, words for every make.
set -eu
release=$1 archive=$2 source=$3 config=$4
shift 4
export LC_ALL=C.UTF-8 KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=lab
mkdir -p "$source"
tar -xf "$archive" --strip-components=1 -C "$source"
cd "$source"
printf '%s\n' "$config" >lab.config
make "$@" KCONFIG_ALLCONFIG=lab.config allnoconfig
# A word that the configuration did not take is a check that nobody would miss.
missing=$(grep -E '^CONFIG_' lab.config | grep -Fvx -f .config || true)
[ -z "$missing" ] || { printf 'not in this kernel: %s\n' $missing >&2; exit 1; }
make "$@" KERNELRELEASE="$release" -j"$(nproc)" bzImage modules
make "$@" KERNELRELEASE="$release" modules_install
cp arch/x86/boot/bzImage "/boot/vmlinuz-$release"
# Modules are built against headers, symbols and Rust metadata; objects are most of what lies here.
find . -name '*.o' -delete
find . -name '*.a' -delete
rm -f vmlinux vmlinux.unstripped

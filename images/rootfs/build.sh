#!/usr/bin/env bash
# Builds the base root filesystem, localhost/rookery/debian:13, from packages: no registry needed.
#
#   images/rootfs/build.sh [--output FILE]     default /var/cache/rookery/images/debian-13.tar
#
# FILE is a tar of the root filesystem. It is made again only when this folder has changed.
# The packages come from the mirror that this machine's apt uses. A machine whose apt knows no
# Debian mirror (Ubuntu) takes ROOKERY_DEBIAN_MIRROR; without it, it gets its own distribution's
# root filesystem under the same name, and says so.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=/var/cache/rookery/images/debian-13.tar
while [ $# -gt 0 ]; do
  case $1 in
    --output) output=${2:?--output needs a file}; shift 2 ;;
    *) echo "build.sh: unknown argument $1; use --output FILE" >&2; exit 2 ;;
  esac
done
mkdir -p "$(dirname "$output")"

# shellcheck source=mirror.sh
. "$here/mirror.sh"
choose_mirror

# The stamp names everything that decides what the archive holds.
stamp=$(cat "$here"/*.sh "$here/packages.txt" - <<<"$distribution $suite $mirror" | sha256sum | cut -d' ' -f1)
is_fresh() { [ -s "$output" ] && [ "$(cat "$output.stamp" 2>/dev/null)" = "$stamp" ]; }
if is_fresh; then exit 0; fi

# Two builds at once: the second waits, then finds the first one's work.
exec 9>"$output.lock"
flock 9
if is_fresh; then exit 0; fi

command -v mmdebstrap >/dev/null || { echo 'build.sh: mmdebstrap is missing; install it with apt-get install mmdebstrap' >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo 'build.sh: needs root' >&2; exit 1; }
[ "$distribution" = debian ] || echo "build.sh: no Debian mirror known here; building $distribution $suite instead (set ROOKERY_DEBIAN_MIRROR for Debian 13)" >&2

rm -f "$output".partial.*
work=$(mktemp -d)
partial=$output.partial.$$
trap 'rm -rf "$work" "$partial"' EXIT
packages=$(grep -v '^#' "$here/packages.txt" | tr '\n' ',' | sed 's/,*$//')
sources >"$work/sources.list"

# Documentation and translations are a third of the size and of no use in a workspace.
cat >"$work/no-docs" <<'DPKG'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
DPKG

echo "build.sh: building $output ($distribution $suite), about a minute" >&2
# `_apt` cannot work in a user namespace whose download folder it does not own, and the container
# bounds apt anyway; recommended packages would double what people install.
mmdebstrap --quiet --mode=root --format=tar --variant=minbase --keyring="$keyring" \
  --include="$packages" \
  --dpkgopt="$work/no-docs" --dpkgopt=force-unsafe-io \
  --aptopt='APT::Sandbox::User "root"' --aptopt='APT::Install-Recommends "false"' \
  --customize-hook='printf "root ALL=(ALL:ALL) NOPASSWD: ALL\n%%sudo ALL=(ALL:ALL) NOPASSWD: ALL\n" >"$1/etc/sudoers.d/rookery" && chmod 0440 "$1/etc/sudoers.d/rookery"' \
  --customize-hook='printf "LANG=C.UTF-8\n" >"$1/etc/default/locale"' \
  --customize-hook='rm -f "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap.force" "$1/etc/resolv.conf" "$1/etc/hostname" && : >"$1/etc/resolv.conf" && : >"$1/etc/hostname"' \
  --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin' \
  "$suite" "$partial" "$work/sources.list"

sync "$partial"
mv -f "$partial" "$output"
# Last: an archive without its stamp is made again.
printf '%s\n' "$stamp" >"$output.stamp.new"
mv -f "$output.stamp.new" "$output.stamp"

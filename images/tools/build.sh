#!/usr/bin/env bash
# Assembles the tools bundle that every container sees read-only at /opt/rookery.
#
#   images/tools/build.sh [--output DIR]     default /var/cache/rookery/tools
#
# All of it is static, so that any image works: musl, distroless, an empty one. The binaries are
# the distribution's catatonit and busybox-static: the installed ones, else from its packages.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=/var/cache/rookery/tools
while [ $# -gt 0 ]; do
  case $1 in
    --output) output=${2:?--output needs a folder}; shift 2 ;;
    *) echo "build.sh: unknown argument $1; use --output DIR" >&2; exit 2 ;;
  esac
done
output=${output%/}
mkdir -p "$(dirname "$output")"

stamp=$(cat "$here/build.sh" "$here/rookery-init" | sha256sum | cut -d' ' -f1)
is_fresh() { [ "$(cat "$output/stamp" 2>/dev/null)" = "$stamp" ]; }

# Removes former bundles that no container has bound any more: a bind's source stands in the mounts
# of every process that sees it, under the name that it has now. The ones in use stay for next time.
drop_unused() {
  local old
  for old in "$output".old.*; do
    [ -d "$old" ] || continue
    if ! grep -qsF "/${old##*/}" /proc/[0-9]*/mountinfo; then rm -rf "$old"; fi
  done
}

if is_fresh && ! compgen -G "$output.old.*" >/dev/null; then exit 0; fi
exec 9>"$output.lock"
flock 9
drop_unused
if is_fresh; then exit 0; fi

rm -rf "$output".partial.*
partial=$output.partial.$$
work=$(mktemp -d)
trap 'rm -rf "$work" "$partial"' EXIT

# Its program header table names no interpreter: the kernel needs nothing else to run it.
is_static() { [ -f "$1" ] && ! head -c 4096 "$1" | grep -aq '/lib[^ ]*/ld-'; }

# take PACKAGE CANDIDATE... TARGET
take() {
  local package=$1 target=${!#} candidate
  shift
  for candidate in "${@:1:$#-1}"; do
    if is_static "$candidate"; then install -m 0755 "$candidate" "$target"; return; fi
  done
  echo "build.sh: fetching the package $package" >&2
  (cd "$work" && apt-get -qq download "$package" && dpkg-deb -x "$package"_*.deb "$package")
  for candidate in "${@:1:$#-1}"; do
    if is_static "$work/$package$candidate"; then install -m 0755 "$work/$package$candidate" "$target"; return; fi
  done
  echo "build.sh: the package $package holds no static binary" >&2
  exit 1
}

install -d -m 0755 "$partial/bin"
take catatonit /usr/bin/catatonit /usr/libexec/podman/catatonit /usr/libexec/catatonit/catatonit "$partial/bin/catatonit"
take busybox-static /usr/bin/busybox /bin/busybox "$partial/bin/busybox"
install -m 0755 "$here/rookery-init" "$partial/bin/rookery-init"
printf '%s\n' "$stamp" >"$partial/stamp"

# Running containers have the old folder bound and still need what is in it, so it goes aside.
[ ! -e "$output" ] || mv -T "$output" "$output.old.$(date +%s).$$"
mv -T "$partial" "$output"
drop_unused

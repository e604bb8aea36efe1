# Shared by the setup steps: messages, the machine's own limits, locks and stamps.

say() { printf 'rookery: %s\n' "$*" >&2; }
die() {
  printf 'rookery: %s\n' "$*" >&2
  exit 1
}

# Rookery runs hosts on this machine only for up, test and bench; the other commands are a client.
check_machine() {
  [ "$(uname -s)" = Linux ] || die "this needs Linux; on another system use the rookery client from a Linux machine."
  [ "$(id -u)" = 0 ] || die "this needs root: it mounts volumes and makes containers. Run it with sudo."
  case "$(uname -m)" in
    x86_64) node_arch=x64 ;;
    aarch64) node_arch=arm64 ;;
    *) die "there is no build for $(uname -m): use x86_64 or aarch64." ;;
  esac
  mkdir -p "$ROOKERY_CACHE" || die "cannot write $ROOKERY_CACHE: set ROOKERY_CACHE to a folder that can be written."
  [ "$1" = host ] || return 0
  kernel_has_btrfs || die "this kernel has no btrfs: install a kernel with it (Debian's and Ubuntu's have), then try again."
  local free_mib
  free_mib=$(df -Pm "$ROOKERY_CACHE" | awk 'NR==2 {print $4}')
  [ "$free_mib" -ge 3072 ] || die "only $free_mib MiB are free under $ROOKERY_CACHE and 3072 are needed: free some space."
}

kernel_has_btrfs() {
  grep -qw btrfs /proc/filesystems || { command -v modprobe >/dev/null && modprobe btrfs 2>/dev/null && grep -qw btrfs /proc/filesystems; } ||
    { ! command -v modprobe >/dev/null && [ -n "$(find "/lib/modules/$(uname -r)" -name 'btrfs.ko*' -print -quit 2>/dev/null)" ]; }
}

# content_hash FILE… : one hash over what the files hold.
content_hash() { cat -- "$@" 2>/dev/null | sha256sum | cut -c1-32; }

stamp_is() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

node_bin() { printf '%s/node24/node_modules/node-linux-%s/bin' "$ROOKERY_CACHE" "$node_arch"; }

npm_run() { "$(node_bin)/node" "$ROOKERY_CACHE/node24/node_modules/npm/bin/npm-cli.js" "$@"; }

# quietly LOG COMMAND… : runs it with its output in a file that is shown when it fails.
quietly() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null || {
    tail -n 40 "$log" >&2
    die "that failed: $1 (all of its output is in $log)"
  }
}

# with_setup_lock COMMAND… : one setup at a time a machine, so two first starts do not collide.
with_setup_lock() {
  (
    flock -w 1800 9 || die "another setup has held $ROOKERY_CACHE/setup.lock for 30 minutes: look for a stuck rookery."
    "$@"
  ) 9>"$ROOKERY_CACHE/setup.lock"
}

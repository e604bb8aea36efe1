# System packages, Node 24 and a btrfs new enough. The machine's apt sources stay as they are.

packages_cli=(ca-certificates openssh-client)
packages_host=(
  podman runc conmon catatonit busybox-static uidmap nftables iproute2 kmod procps util-linux
  btrfs-progs mmdebstrap restic tar xz-utils zstd openssh-client
)
# Named so on some releases only: podman's seccomp profile, its network helper where it wants one,
# and the key with which the base image's packages are checked.
packages_host_optional=(golang-github-containers-common netavark debian-archive-keyring)
packages_tests=(chromium docker-registry e2fsprogs rsync git libcap2-bin)
packages_bench=(nginx-light openssh-server wrk)

# set_up_system GROUP… : groups of packages, each with its own stamp.
set_up_system() {
  local group key stamp
  for group in "$@"; do
    stamp=$ROOKERY_CACHE/system-$group.stamp
    key=$(content_hash "$root/scripts/setup/system.sh" /etc/os-release)
    stamp_is "$stamp" "$key" && group_is_there "$group" && continue
    with_setup_lock install_group "$group"
    printf '%s' "$key" >"$stamp"
  done
  [ -x "$(node_bin)/node" ] || with_setup_lock install_node
  if [[ " $* " == *" host "* ]]; then
    [ -f "$ROOKERY_CACHE/btrfs-progs/checked" ] || with_setup_lock bring_btrfs_progs
  fi
}

# The stamp may be older than somebody's apt-get remove.
group_is_there() {
  case $1 in
    host) command -v podman runc btrfs nft ip mmdebstrap restic ssh-keygen newuidmap catatonit >/dev/null ;;
    *) return 0 ;;
  esac
}

install_group() {
  local -n required=packages_$1
  local wanted=("${required[@]}")
  local missing=() package optional
  optional=packages_$1_optional[@]
  for package in "${!optional-}"; do
    [ -n "$package" ] || continue
    apt_update_once
    [ -z "$(apt-cache madison "$package" 2>/dev/null)" ] || wanted+=("$package")
  done
  for package in "${wanted[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  apt_install "${missing[@]}"
}

apt_install() {
  command -v apt-get >/dev/null ||
    die "this machine has no apt: use Debian 12 or 13 or Ubuntu 24.04, or install yourself: $*"
  say "installing system packages: $*"
  apt_update_once
  DEBIAN_FRONTEND=noninteractive quietly "$ROOKERY_CACHE/apt.log" \
    apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "$@"
}

apt_update_once() {
  [ -z "${apt_updated:-}" ] || return 0
  quietly "$ROOKERY_CACHE/apt-update.log" apt-get update -q
  apt_updated=1
}

# Node 24 comes from npm's own registry, so any npm will do to fetch it.
install_node() {
  [ ! -x "$(node_bin)/node" ] || return 0
  command -v npm >/dev/null || apt_install nodejs npm
  say "fetching Node 24"
  local staging=$ROOKERY_CACHE/node24.staging
  rm -rf "$staging" "$ROOKERY_CACHE/node24"
  quietly "$ROOKERY_CACHE/node.log" \
    npm install --prefix "$staging" --no-save --no-audit --no-fund "node-linux-$node_arch@24" npm@11
  mv "$staging" "$ROOKERY_CACHE/node24"
}

# Simple quotas need btrfs-progs 6.7. Where the machine's own are older, Debian's backports have
# them: fetched with a sources list of our own and unpacked beside, not installed.
bring_btrfs_progs() {
  local have folder
  have=$(btrfs --version | sed -nE '1s/.*v([0-9.]+).*/\1/p')
  folder=$ROOKERY_CACHE/btrfs-progs
  mkdir -p "$folder"
  if ! version_at_least "$have" 6.7; then
    fetch_backported_btrfs "$folder" ||
      say "btrfs-progs $have has no simple quotas and no newer one is to be had: classic quotas are used."
  fi
  touch "$folder/checked"
}

version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# The entry script puts this folder first on the PATH.
link_programs() {
  local program
  mkdir -p "$ROOKERY_CACHE/bin"
  while IFS= read -r program; do
    "$program" --version >/dev/null || return 1
    ln -sfn "$program" "$ROOKERY_CACHE/bin/$(basename "$program")"
  done < <(find "$1" -type f -path "*bin/*" \( -name btrfs -o -name mkfs.btrfs \) -perm -u+x)
  [ -x "$ROOKERY_CACHE/bin/btrfs" ]
}

fetch_backported_btrfs() {
  local folder=$1 codename
  codename=$(debian_codename) || return 1
  say "fetching a btrfs-progs with simple quotas from $codename-backports"
  fetch_debian_packages "$codename-backports" "$folder" btrfs-progs || return 1
  link_programs "$folder/current"
}

debian_codename() (
  # shellcheck source=/dev/null
  . /etc/os-release && [ "${ID:-}" = debian ] && printf '%s' "${VERSION_CODENAME:?}"
)

# fetch_debian_packages SUITE FOLDER PACKAGE… : unpacks packages of another Debian suite into
# FOLDER/current, from the mirror that this machine uses, without touching its own sources.
fetch_debian_packages() {
  local suite=$1 folder=$2 site work options
  shift 2
  site=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    awk -v c="$(debian_codename)" '$2 == c {print $1; exit}')
  [ -n "$site" ] || return 1
  mkdir -p "$folder"
  work=$(mktemp -d "$folder/fetch.XXXXXX")
  mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/parts" "$work/tree"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
    "$site" "$suite" >"$work/sources.list"
  options=(-o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/parts"
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache::Archives=$work/archives"
    -o APT::Sandbox::User=root -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
  if (cd "$work" && apt-get "${options[@]}" update -q && apt-get "${options[@]}" download "${@/%//$suite}") \
    >"$folder/fetch.log" 2>&1 && unpack_packages "$work" "$work/tree"; then
    rm -rf "$folder/current"
    mv "$work/tree" "$folder/current"
    rm -rf "$work"
    return
  fi
  rm -rf "$work"
  return 1
}

unpack_packages() {
  local package
  for package in "$1"/*.deb; do dpkg-deb -x "$package" "$2" || return 1; done
}

# npm packages, the build, the base image: each done again only when its inputs changed.

set_up_workspace() {
  local lock_key
  lock_key=$(content_hash "$root/package-lock.json" "$root/package.json")
  stamp_is "$root/node_modules/.rookery.stamp" "$lock_key" || with_setup_lock install_npm_packages "$lock_key"
  sources_are_built || with_setup_lock build_sources
}

# Not `npm ci`: it refuses a lock file whose registry did not have every other platform's packages.
# `--no-save` installs what the lock file says and leaves it as it is.
install_npm_packages() {
  say "installing npm packages"
  (cd "$root" && PATH="$(node_bin):$PATH" quietly "$ROOKERY_CACHE/npm.log" \
    npm_run install --no-save --no-audit --no-fund --loglevel=error)
  printf '%s' "$1" >"$root/node_modules/.rookery.stamp"
}

# A source file or folder newer than the last build means: build. (tsc finds out what exactly.)
sources_are_built() {
  local stamp=$root/node_modules/.rookery-build.stamp
  [ -f "$stamp" ] || return 1
  [ -z "$(find "$root"/modules/*/src "$root/hub/src" "$root/appliance/src" \
    "$root/cluster/src" "$root/harness/src" \
    "$root"/modules/*/tsconfig.json "$root/tsconfig.base.json" -newer "$stamp" -print -quit)" ]
}

build_sources() {
  local stamp=$root/node_modules/.rookery-build.stamp
  ! sources_are_built || return 0
  say "building"
  touch "$stamp.next"
  (cd "$root" && PATH="$(node_bin):$PATH" quietly "$ROOKERY_CACHE/build.log" \
    node node_modules/@typescript/native/bin/tsc -b \
    modules/core modules/conat modules/rpc modules/jetstream modules/fleet modules/storage \
    modules/runner modules/proxy modules/backup modules/move modules/api modules/client modules/cli \
    hub appliance cluster harness)
  mv "$stamp.next" "$stamp"
}

set_up_images() {
  local key stamp=$ROOKERY_CACHE/images.stamp
  key=$(find "$root/images" -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-32)
  stamp_is "$stamp" "$key" && [ -f "$ROOKERY_CACHE/images/debian-13.tar" ] &&
    [ -x "$ROOKERY_CACHE/tools/bin/catatonit" ] && return 0
  with_setup_lock build_images
  printf '%s' "$key" >"$stamp"
}

build_images() {
  mkdir -p "$ROOKERY_CACHE/images"
  say "building the base image from Debian's packages (under a minute)"
  quietly "$ROOKERY_CACHE/tools.log" bash "$root/images/tools/build.sh" --output "$ROOKERY_CACHE/tools"
  quietly "$ROOKERY_CACHE/image.log" bash "$root/images/rootfs/build.sh" \
    --output "$ROOKERY_CACHE/images/debian-13.tar"
}

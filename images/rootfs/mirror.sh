# Finds the package mirror that this machine itself uses. Sourced by build.sh.

# Prints every "<uri> <suite> <components>" of apt's configuration, both formats.
apt_sources() {
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$file" ] || continue
    sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?//p' "$file"
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    awk '
      function flush(  i, j, n, m, u, s) {
        n = split(uris, u, " "); m = split(suites, s, " ")
        if (types ~ /(^| )deb( |$)/ && enabled != "no")
          for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print u[i], s[j], components
        types = uris = suites = components = enabled = ""
      }
      /^#/ { next }
      /^[[:space:]]*$/ { flush(); next }
      { key = tolower($1); value = $0; sub(/^[^:]*:[[:space:]]*/, "", value) }
      key == "types:" { types = value }
      key == "uris:" { uris = value }
      key == "suites:" { suites = value }
      key == "components:" { components = value }
      key == "enabled:" { enabled = tolower(value) }
      END { flush() }
    ' "$file"
  done
}

# First uri whose suite is the machine's own release (or its security suite).
uri_of_suite() { apt_sources | awk -v suite="$1" '$2 == suite { print $1; exit }'; }

# Sets distribution, suite, mirror, security (may be empty) and keyring.
choose_mirror() {
  local id codename
  id=$(. /etc/os-release && echo "${ID:-}")
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  distribution=debian suite=trixie security=
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  if [ -n "${ROOKERY_DEBIAN_MIRROR:-}" ]; then
    mirror=${ROOKERY_DEBIAN_MIRROR%/}
    security=${ROOKERY_DEBIAN_SECURITY_MIRROR:-}
  elif [ "$id" = debian ]; then
    mirror=$(uri_of_suite "$codename")
    security=$(uri_of_suite "$codename-security")
  else
    distribution=$id suite=$codename
    keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
    mirror=$(uri_of_suite "$codename")
    security=$(uri_of_suite "$codename-security")
  fi
  mirror=${mirror%/} security=${security%/}
  if [ -z "$mirror" ]; then
    echo 'build.sh: no package mirror in /etc/apt; set ROOKERY_DEBIAN_MIRROR to one' >&2
    exit 1
  fi
}

# The sources.list of the new root filesystem.
sources() {
  local components=main
  [ "$distribution" = debian ] || components='main universe'
  echo "deb [signed-by=$keyring] $mirror $suite $components"
  echo "deb [signed-by=$keyring] $mirror $suite-updates $components"
  [ -z "$security" ] || echo "deb [signed-by=$keyring] $security $suite-security $components"
}

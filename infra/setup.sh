#!/bin/sh
# Installs what the project needs on this machine: Debian packages (as root) and the Python environment.
#   infra/setup.sh run    what `make up` needs
#   infra/setup.sh test   that, and the servers and the browser of the tests
set -eu
cd "$(dirname "$0")/.."

run_packages="buildah ca-certificates conntrack containerd containernetworking-plugins iproute2 maven mmdebstrap
  nftables openjdk-17-jre-headless python3-venv runc"
test_packages="chromium docker-registry gcc libc6-dev postgresql-15 prometheus python3-dev redis-server"

case "${1:-run}" in
  run) packages=$run_packages requirements=requirements.txt ;;
  test) packages="$run_packages $test_packages" requirements=requirements-dev.txt ;;
  *) echo "setup: '$1' is neither 'run' nor 'test'" >&2; exit 2 ;;
esac

missing=
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "setup: not installed:$missing; on Debian 12, as root: apt-get update && apt-get install -y$missing" >&2
    exit 1
  fi
  echo "setup: installing$missing" >&2
  # Packages may start a system-wide PostgreSQL, Redis or containerd; this project starts its own.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT INT TERM
  fi
  apt-get update -qq
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

wanted=$(cat requirements.txt app/requirements.txt app/exchange/requirements.txt requirements-dev.txt pyproject.toml | sha256sum | cut -c1-16)
stamp=.venv/.installed-${1:-run}-$wanted
if [ ! -e "$stamp" ]; then
  echo "setup: installing Python packages into .venv" >&2
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
  rm -f .venv/.installed-"${1:-run}"-*
  : >"$stamp"
fi

# Where it cannot be compiled the exchange runs as plain Python; `python -m app roles` tells which build runs.
if [ "${1:-run}" = test ] || command -v cc >/dev/null; then
  .venv/bin/python -m app.exchange.compile --cache "${XDG_CACHE_HOME:-$HOME/.cache}/tradestack/exchange" || true
fi

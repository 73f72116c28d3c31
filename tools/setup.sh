#!/usr/bin/env bash
# Installs what is missing, then builds: Debian packages, a virtual environment in .venv, programs in build/bin.
# Safe to run again and to interrupt at any moment; with everything in place it takes about a second.
# Usage: tools/setup.sh [--no-build] [--clients] [--torch-dir DIR]
#   --no-build       stop after installing
#   --clients        also clients of the server that others wrote, for the tests: a second environment, .venv-clients,
#                    and chromium
#   --torch-dir DIR  build against the `torch` folder of another PyTorch wheel (or set RECAST_TORCH_DIR)
set -euo pipefail
export LC_ALL=C.UTF-8
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

packages=(
  ccache cmake curl dataset-fashion-mnist fish g++ git libboost1.81-dev libcli11-dev libfmt-dev libgmock-dev
  libgrpc++-dev libgtest-dev libjpeg62-turbo-dev libpng-dev libpq-dev libprotobuf-dev libprotozero-dev libsqlite3-dev
  libssl-dev libwebp-dev libyaml-cpp-dev logrotate mold ninja-build nlohmann-json3-dev openclipart-png openmpi-bin openssl
  pkg-config postgresql prometheus-cpp-dev protobuf-compiler protobuf-compiler-grpc python3-dev python3-venv systemd zlib1g-dev
  zsh)
build=yes clients=no
torch_dir=${RECAST_TORCH_DIR:-}

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
trap 'printf "\nsetup: interrupted; run it again to go on from here\n" >&2; exit 130' INT

while (($#)); do
  case $1 in
    --no-build) build=no ;;
    --clients) clients=yes ;;
    --torch-dir) [[ $# -ge 2 ]] || die "--torch-dir needs a folder"; torch_dir=$2; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
    *) printf 'setup: unknown option %s (see --help)\n' "$1" >&2; exit 2 ;;
  esac
  shift
done
[[ $clients == no ]] || packages+=(chromium)

# step HEADING COMMAND...: a heading, the command, its seconds on the screen and in build/times.txt.
step() {
  local heading=$1 start=$EPOCHREALTIME seconds
  shift
  printf '== %s\n' "$heading"
  "$@"
  seconds=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
  printf '   %s s\n' "$seconds"
  printf '%s\t%s\t%s s\n' "$(date -u +%FT%TZ)" "$heading" "$seconds" >> build/times.txt
}

missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${packages[@]}" 2> /dev/null | sed -n 's/^ii //p') ||
    true # it fails where a package is unknown, and still lists the others
  comm -23 <(printf '%s\n' "${packages[@]}" | sort) <(sort <<< "$installed")
}

install_packages() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0)
  if ((EUID != 0)); then
    command -v sudo > /dev/null || die "these Debian packages are missing and neither root nor sudo is at hand: $*"
    apt=(sudo "${apt[@]}")
  fi
  local install=("${apt[@]}" install -y --no-install-recommends "$@")
  # The package lists may be absent or too old; they are fetched only then.
  "${install[@]}" > build/apt.log 2>&1 && return
  "${apt[@]}" update >> build/apt.log 2>&1 && "${install[@]}" >> build/apt.log 2>&1 && return
  tail -n 15 build/apt.log >&2
  die "apt-get could not install: $* (see build/apt.log)"
}

find_python() {
  local python
  for python in ${PYTHON:+"$PYTHON"} python3.11 /usr/bin/python3 python3; do
    if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then
      command -v "$python"
      return
    fi
  done
  die "Python 3.11 with venv was not found; the pinned wheels were tested with it (PYTHON may name it)"
}

pip_quietly() {
  "$venv/bin/python" -m pip "$1" --quiet --disable-pip-version-check --only-binary :all: --no-deps "${@:2}"
}

# pip_install CONSTRAINTS...: those packages and no others, from wheels whose SHA-256 stands there. Python compiles what is
# imported when it is, which is little of them.
pip_install() { pip_quietly install --no-compile --require-hashes "$@"; }

# Whichever build this machine's index offers, as long as its hash is known. It is chosen before pip hears of hashes: among
# several builds pip prefers one whose page tells a known hash to those in a folder.
install_torch() {
  local pin torch wheel=build/torch-wheel
  pin=$(sed -n '/^torch==/,/[^\\]$/p' "$constraints")
  torch=${pin%% *}
  "$venv/bin/python" - "${torch#*==}" <<< \
    'import importlib.metadata as m, sys; sys.exit(m.version("torch").partition("+")[0] != sys.argv[1])' 2> /dev/null && return
  rm -rf "$wheel"
  pip_quietly download --dest "$wheel" "$torch"
  printf '%s\n' "$pin" > "$wheel/pin.txt"
  pip_install --no-index --find-links "$wheel" -r "$wheel/pin.txt" ||
    die "no known hash fits $(basename "$wheel"/*.whl); if you trust where it comes from: $venv/bin/python tools/lock.py"
  rm -rf "$wheel"
}

install_own() {
  install_torch
  pip_install -r "$constraints"
  ! grep -q '^Requires-Dist: cuda-' "$venv"/lib/python*/site-packages/torch-*.dist-info/METADATA ||
    pip_install -r tools/constraints-cuda.txt
}

# Apart, since they ask for other versions of what we pin (protobuf, greenlet, pandas).
install_clients() { pip_install -r "$constraints"; }

make_venv() {
  # One that was left half-way is not to be trusted.
  [[ ! -e $unfinished && -x $venv/bin/python ]] || rm -rf "$venv"
  if [[ ! -d $venv ]]; then
    local python
    python=$(find_python) || exit 1
    "$python" -m venv "$venv"
  fi
  touch "$unfinished"
  "$1"
  printf '%s\n' "$2" > "$stamp"
  rm "$unfinished"
}

# need_venv NAME INSTALL CONSTRAINTS...: has the function INSTALL fill an environment, unless it was filled from these very
# files.
need_venv() {
  local name=$1 install=$2 constraints=$3 wanted
  local venv=$root/$name
  local stamp=$venv/recast-stamp unfinished=$venv/recast-unfinished
  shift 2
  wanted=$(cat "$@" <(echo "$root") | sha256sum | cut -d' ' -f1)
  if [[ -e $unfinished || ! -x $venv/bin/python || $(cat "$stamp" 2> /dev/null) != "$wanted" ]]; then
    step "Python environment in $name" make_venv "$install" "$wanted"
  fi
}

cached() { sed -n "s/^$1:[A-Z]*=//p" build/dev/CMakeCache.txt 2> /dev/null; }

# As many compilers as there are cores and 1.5 GB of memory for each.
jobs_that_fit() {
  local fit
  fit=$(awk '/^MemAvailable/ { print int($2 / 1.5e6) }' /proc/meminfo)
  ((fit >= 1)) || fit=1
  ((fit <= $(nproc))) || fit=$(nproc)
  echo "$fit"
}

build_all() {
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
  cmake --build --preset dev -j "$(jobs_that_fit)"
}

mkdir -p build
exec 9> build/setup.lock
flock -n 9 || { echo "setup: waiting for another one in this checkout"; flock 9; }

if ! command -v dpkg-query > /dev/null; then
  echo "setup: no dpkg here, so the packages are yours to bring: ${packages[*]}"
elif mapfile -t missing < <(missing_packages) && ((${#missing[@]})); then
  step "Debian packages: ${missing[*]}" install_packages "${missing[@]}"
fi

need_venv .venv install_own tools/constraints.txt tools/constraints-cuda.txt
[[ $clients == no ]] || need_venv .venv-clients install_clients tools/constraints-clients.txt
[[ $build == yes ]] || exit 0

if [[ -z $torch_dir ]]; then
  torch_dir=$(.venv/bin/python -c \
    'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
fi
if [[ ! -e build/dev/build.ninja || $(cached RECAST_TORCH_DIR) != "$torch_dir" ]]; then
  step "Configure build/dev" cmake --preset dev -DRECAST_TORCH_DIR="$torch_dir"
fi
step "Build ($(nproc) cores)" build_all

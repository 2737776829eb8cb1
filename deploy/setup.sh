#!/usr/bin/env bash
# Create or refresh .venv: the pinned packages of the lock files plus this project, editable.
# Does nothing (and needs no network) while the lock files, pyproject.toml, this script and Python are unchanged.
# PYTHON=... selects the interpreter; otherwise the first python3 on PATH that is new enough.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

die() {
    echo "setup: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    die "Python 3.11 or newer is required (set PYTHON=/path/to/python3 if it is not on PATH)"
}

ask_python() { "$python" -c "import os, sys, sysconfig; $1"; }

# The packages this interpreter still lacks to make a venv and to compile python-lzo, which has
# no wheel for Linux. The headers looked for are those of this very interpreter.
missing_packages() {
    local version
    version=$(ask_python 'print("python%d.%d" % sys.version_info[:2])')
    ask_python 'import ensurepip' 2>/dev/null || echo "$version-venv"
    if .venv/bin/python -c 'import lzo' 2>/dev/null; then return; fi
    command -v "$(ask_python 'print((sysconfig.get_config_var("CC") or "cc").split()[0])')" >/dev/null ||
        echo gcc libc6-dev
    ask_python 'sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || echo "$version-dev"
    [[ -e /usr/include/lzo/lzo1x.h ]] || echo liblzo2-dev
}

# What the example in C is built with. Nothing else needs it: without, only the tests of that example are skipped.
# The name of msgpack's package depends on the release.
packages_of_the_c_example() {
    command -v gcc >/dev/null || echo gcc libc6-dev
    [[ -e /usr/include/zmq.h ]] || echo libzmq3-dev
    [[ -e /usr/include/zlib.h ]] || echo zlib1g-dev
    if [[ -e /usr/include/msgpack.h ]]; then return; fi
    if apt-cache show libmsgpack-c-dev >/dev/null 2>&1; then echo libmsgpack-c-dev; else echo libmsgpack-dev; fi
}

prepare_c_example() {
    local -a wanted
    read -r -a wanted <<<"$(packages_of_the_c_example | tr '\n' ' ')"
    if ((${#wanted[@]} == 0)); then return; fi
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        # An image without package lists cannot say which name msgpack has.
        apt-cache show libzmq3-dev >/dev/null 2>&1 || apt-get update -qq >/dev/null 2>&1 || true
        read -r -a wanted <<<"$(packages_of_the_c_example | tr '\n' ' ')"
        if apt_install "${wanted[@]}"; then return; fi
    fi
    echo "setup: the example in C will not be tested; for that, as root: apt-get install ${wanted[*]}" >&2
}

apt_install() {
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    echo "setup: apt-get install $*"
    if ! apt-get install -qq -y --no-install-recommends "$@" >"$log" 2>&1; then
        if ! { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@"; } >"$log" 2>&1; then
            cat "$log" >&2
            rm -f "$log"
            return 1
        fi
    fi
    rm -f "$log"
}

exec 9<deploy/setup.sh
flock 9 # one set-up at a time

python=$(find_python)
base="$(ask_python 'print(sysconfig.get_config_var("SOABI"))') $python $PWD" # what a venv is tied to
key=$({ echo "$base"; cat requirements.lock requirements-dev.lock pyproject.toml deploy/setup.sh; } | sha256sum)
if [[ "$(cat .venv/.stamp 2>/dev/null)" == "$key" ]]; then exit 0; fi

if [[ "$(cat .venv/.base 2>/dev/null)" != "$base" ]]; then rm -rf .venv; fi

read -r -a packages <<<"$(missing_packages | tr '\n' ' ')"
if ((${#packages[@]})); then
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        die "as root, run first: apt-get install ${packages[*]}"
    fi
    apt_install "${packages[@]}" || die "apt-get could not install: ${packages[*]}"
fi
prepare_c_example

if [[ ! -e .venv/.base ]]; then
    echo "setup: creating .venv with $python"
    "$python" -m venv --clear .venv
    echo "$base" >.venv/.base
fi
echo "setup: installing the locked packages"
pip=(.venv/bin/python -m pip install --quiet)
"${pip[@]}" --constraint requirements.lock setuptools # builds use the pinned setuptools, not a fetched one
"${pip[@]}" --no-build-isolation --requirement requirements.lock --requirement requirements-dev.lock
"${pip[@]}" --no-build-isolation --no-deps --editable .
echo "$key" >.venv/.stamp

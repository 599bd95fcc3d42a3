#!/usr/bin/env bash
# setup.sh PART...: installs what is missing for `build`, `postgres` and `clients`, and says so first.
# Where there is apt it uses apt (with sudo unless root); elsewhere it names what to install.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

packages=() # Debian's names of what is missing.
names=()    # The same in words, for other systems.

want() {
    names+=("$1")
    shift
    packages+=("$@")
}

install() {
    if [ ${#packages[@]} -eq 0 ]; then
        return 0
    fi
    say "missing: $(printf '%s, ' "${names[@]}" | sed 's/, $//')"
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo=(sudo)
    fi
    if ! has apt-get || { [ ${#sudo[@]} -gt 0 ] && ! has sudo; }; then
        return 1
    fi
    say "running: ${sudo[*]+"${sudo[*]} "}apt-get install --no-install-recommends ${packages[*]}"
    "${sudo[@]}" apt-get update -qq &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${packages[@]}" </dev/null >/dev/null
}

for part in "$@"; do
    case $part in
    build)
        has cargo || die "no Rust toolchain: install it (see https://rustup.rs), then try again"
        { has cc && has c++ && has make; } || want "a C and C++ compiler" build-essential
        ;;
    postgres)
        postgres_bin >/dev/null || want "PostgreSQL's server programs" postgresql
        has curl || want curl curl
        ;;
    clients)
        has kcat || want kcat kcat
        python3 -c 'import venv, ensurepip' 2>/dev/null || want "Python 3 with venv" python3 python3-venv
        has java || want "a Java runtime" default-jdk-headless
        has mvn || want Maven maven
        ;;
    *) die "unknown part $part" ;;
    esac
done
install || die "please install by hand: $(printf '%s, ' "${names[@]}" | sed 's/, $//')"

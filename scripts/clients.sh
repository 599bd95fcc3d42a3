#!/usr/bin/env bash
# Runs the foreign-client tests against the debug build (or $TOWLINE); arguments go to pytest.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

tests=$root/tests/clients
venv=$target/clients/venv
export PYTHONDONTWRITEBYTECODE=1 TOWLINE=${TOWLINE:-$target/debug/towline}

[ -x "$TOWLINE" ] || (cd "$root" && cargo build -p towline --bin towline)
if ! cmp -s "$tests/requirements.txt" "$venv/installed.txt"; then
    say "installing the Python clients into $venv"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$tests/requirements.txt"
    cp "$tests/requirements.txt" "$venv/installed.txt"
fi
cd "$tests"
# Every test has its own limit; this one is for the runner itself.
exec timeout 600 "$venv/bin/python" -m pytest -n 2 -rs "$@"

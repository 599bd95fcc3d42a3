#!/usr/bin/env bash
# Every test: the workspace's, then the foreign clients'. Both run even if the first fails. Arguments go to the former.
set -uo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root" || exit 1
failed=0
cargo test --workspace --no-fail-fast "$@" || failed=1
# The worker reached its log in the process; once more over TCP, as on any Kafka cluster.
TOWLINE_TEST_ADAPTER=cluster cargo test -p towline --test main -- avro_pipeline:: bad_input:: crash:: tutorial:: types:: \
    || failed=1
cargo build -q -p towline --bin towline || exit 1
scripts/clients.sh || failed=1
if [ $failed -ne 0 ]; then
    say "make test: FAILED, see above"
fi
exit $failed

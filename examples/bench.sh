#!/usr/bin/env bash
# bench.sh [RUNS]: the whole pipeline (source table, topic, target table) against `psql COPY | psql COPY` between the same
# two clusters, in turn, in the same run. Prints rows/s of each run, the medians and their ratio.
# ROWS_IRIS, ROWS_EVENTS: table sizes. CONVERTER=avro|json. SOURCE, SINK: more JSON properties, each with a leading comma.
# shellcheck disable=SC2119 # Any free port will do.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"

runs=${1:-3}
bench=$root/.demo/bench
towline_pid=''

main() {
    trap stop EXIT
    trap 'exit 130' INT TERM
    build_release
    clean
    mkdir -p "$bench"
    start_clusters
    printf '%-8s %-4s %14s %14s\n' table run 'psql rows/s' 'towline rows/s'
    measure iris "${ROWS_IRIS:-1000000}"
    measure events "${ROWS_EVENTS:-300000}"
}

start_clusters() {
    local settings=(shared_buffers=512MB max_wal_size=8GB checkpoint_timeout=1h autovacuum=off)
    source_port=$(free_port) target_port=$(free_port)
    start_postgres "$bench/source" "$source_port" bench bench bench "${settings[@]}"
    start_postgres "$bench/target" "$target_port" bench bench bench "${settings[@]}"
    create_tables "$source_port"
    create_tables "$target_port"
}

sql() {
    local port=$1
    shift
    PGPASSWORD=bench "$(postgres_bin)/psql" -qAtX -v ON_ERROR_STOP=1 -h localhost -p "$port" -U bench -d bench "$@"
}

create_tables() {
    sql "$1" <<'SQL'
CREATE TABLE iris (id serial PRIMARY KEY, "timestamp" timestamp, sepal_length float8, sepal_width float8,
                   petal_length float8, petal_width float8, target int);
CREATE TABLE events (id bigserial PRIMARY KEY, event uuid, title text, body jsonb, amount numeric(12, 2),
                     happened timestamptz, valid bool, note text);
SQL
}

fill() {
    local values
    case $1 in
    iris)
        values="date_trunc('milliseconds', localtimestamp) - i * interval '1 second', 4 + random() * 4, 2 + random() * 2,
            1 + random() * 6, random() * 2.5, i % 3"
        ;;
    events)
        values="gen_random_uuid(), 'event of the machine ' || md5(i::text) || i % 1000,
            jsonb_build_object('kind', 'measurement', 'sensor', md5((i % 100)::text), 'values',
                jsonb_build_array(i, i * 2, i * 3), 'where', jsonb_build_object('room', i % 20, 'text', md5(i::text))),
            (i % 1000000) / 100.0, date_trunc('milliseconds', now()) - i * interval '1 second', i % 2 = 0,
            CASE WHEN i % 3 > 0 THEN 'note ' || i END"
        ;;
    esac
    sql "$source_port" -c "INSERT INTO $1 SELECT i, $values FROM generate_series(1, $2) AS i" -c "VACUUM ANALYZE $1"
}

# measure TABLE ROWS
measure() {
    local run pipes=() ours=()
    fill "$1" "$2"
    for run in $(seq "$runs"); do
        pipe "$1" "$2"
        pipes+=("$rate")
        pipeline "$1" "$2"
        ours+=("$rate")
        printf '%-8s %-4s %14d %14d\n' "$1" "$run" "${pipes[-1]}" "${ours[-1]}"
    done
    local pipe_median our_median
    pipe_median=$(median "${pipes[@]}")
    our_median=$(median "${ours[@]}")
    printf '%-8s %-4s %14d %14d   ratio %s\n' "$1" med "$pipe_median" "$our_median" \
        "$(awk -v a="$our_median" -v b="$pipe_median" 'BEGIN { printf "%.2f", a / b }')"
}

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
microseconds() { date +%s%6N; }

# The limit: what PostgreSQL's own client does. Sets $rate.
pipe() {
    local begun
    empty_target "$1"
    begun=$(microseconds)
    sql "$source_port" -c "COPY $1 TO STDOUT (FORMAT binary)" | sql "$target_port" -c "COPY $1 FROM STDIN (FORMAT binary)"
    rate=$(($2 * 1000000 / ($(microseconds) - begun)))
}

# From the first POST to the last row committed in the target, with a new and empty towline. Sets $rate.
pipeline() {
    local begun connect registry
    empty_target "$1"
    rm -rf "$bench/towline"
    registry=$(free_port)
    connect=$(free_port)
    start_towline "$bench" "$(free_port)" "$registry" "$connect" "$(free_port)"
    write_connectors "$1" "$registry"
    begun=$(microseconds)
    post_connector "$connect" "$bench/source.json"
    post_connector "$connect" "$bench/sink.json"
    wait_for_rows "$1" "$2" || {
        failed_connector "$connect" >&2 || true
        tail -n 20 "$bench/towline.log" >&2
        die "the rows of $1 did not arrive"
    }
    rate=$(($2 * 1000000 / ($(microseconds) - begun)))
    check "$1"
    stop_towline
}

empty_target() { sql "$target_port" -c "TRUNCATE $1" -c 'CHECKPOINT'; }

# Ids are written in order, so the last one is there when all are. One session asks, so that asking costs little.
wait_for_rows() {
    sql "$target_port" >/dev/null 2>&1 <<SQL
SET statement_timeout = '300s';
DO \$\$ BEGIN
    WHILE (SELECT max(id) FROM $1) IS DISTINCT FROM $2 LOOP PERFORM pg_sleep(0.01); END LOOP;
END \$\$;
SQL
}

check() {
    "$towline" verify --table "$1" --truncate-timestamps ms \
        --source "jdbc:postgresql://localhost:$source_port/bench?user=bench&password=bench" \
        --target "jdbc:postgresql://localhost:$target_port/bench?user=bench&password=bench" >"$bench/verify" || {
        cat "$bench/verify" >&2
        die "the tables differ"
    }
}

write_connectors() {
    local common converter='"value.converter": "org.apache.kafka.connect.json.JsonConverter"'
    if [ "${CONVERTER:-avro}" = avro ]; then
        converter='"value.converter": "io.confluent.connect.avro.AvroConverter",
            "value.converter.schema.registry.url": "http://127.0.0.1:'$2'"'
    fi
    common='"connection.user": "bench", "connection.password": "bench", '$converter
    cat >"$bench/source.json" <<JSON
{"name": "source", "config": {"connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector", $common,
 "connection.url": "jdbc:postgresql://localhost:$source_port/bench", "table.whitelist": "$1", "topic.prefix": "bench-",
 "mode": "incrementing", "incrementing.column.name": "id"${SOURCE:-}}}
JSON
    cat >"$bench/sink.json" <<JSON
{"name": "sink", "config": {"connector.class": "io.confluent.connect.jdbc.JdbcSinkConnector", $common,
 "connection.url": "jdbc:postgresql://localhost:$target_port/bench?stringtype=unspecified", "topics": "bench-$1",
 "table.name.format": "$1"${SINK:-}}}
JSON
}

stop_towline() {
    if [ -n "$towline_pid" ]; then
        kill "$towline_pid" 2>/dev/null || true
        wait "$towline_pid" 2>/dev/null || true
        towline_pid=''
    fi
}

stop() {
    local code=$?
    trap '' INT TERM
    stop_towline
    clean
    exit $code
}

clean() {
    remove_postgres "$bench/source"
    remove_postgres "$bench/target"
    rm -rf "$bench"
}

main

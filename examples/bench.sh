#!/usr/bin/env bash
# bench.sh [RUNS]: what moving rows costs, always beside a reference in the same run, between the same two clusters.
#   pipeline  source table, topic, target table, beside `psql COPY | psql COPY` and beside row-wise INSERT (one
#             round trip a row; JDBC drivers send ahead), in turn; medians of RUNS (5) and their ratios to the pipe
#   upsert    into a table that holds the rows, beside staging table and INSERT ... ON CONFLICT by psql
#   tables    100 tables with tasks.max 4, beside one table with as many rows
#   latency   from commit in the source to visible in the target, at 500 rows/s
#   memory    peak of resident memory while rows of 355 bytes and of 1 MB move
# PARTS="pipeline latency" chooses. ROWS_IRIS, ROWS_EVENTS: table sizes. PATHS="embedded cluster": how the worker reaches
# its log. CONVERTERS="avro json". docs/benchmarks.md explains the figures.
# shellcheck disable=SC2119 # Any free port will do.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"

runs=${1:-5}
bench=$root/.demo/bench
towline_pid=''

main() {
    trap stop EXIT
    trap 'exit 130' INT TERM
    build_release
    clean
    mkdir -p "$bench"
    start_clusters
    local part
    for part in ${PARTS:-pipeline upsert tables latency memory}; do
        "bench_$part"
    done
}

bench_pipeline() {
    printf '%-8s %-9s %-5s %4s %12s %12s %12s\n' table path as run psql towline row-wise
    measure iris "${ROWS_IRIS:-2000000}"
    measure events "${ROWS_EVENTS:-500000}"
}

start_clusters() {
    local settings=(shared_buffers=512MB max_wal_size=8GB checkpoint_timeout=1h autovacuum=off track_commit_timestamp=on)
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
    sql "$source_port" -c "TRUNCATE $1" -c "INSERT INTO $1 SELECT i, $values FROM generate_series(1, $2) AS i" -c "VACUUM ANALYZE $1"
}

# measure TABLE ROWS: every path and converter, the pipe before each run of ours.
measure() {
    local run path as pipes ours rows
    fill "$1" "$2"
    for path in ${PATHS:-embedded cluster}; do
        for as in ${CONVERTERS:-avro json}; do
            pipes=() ours=() rows=()
            for run in $(seq "$runs"); do
                pipe "$1" "$2"
                pipes+=("$rate")
                pipeline "$1" "$2" "$path" "$as"
                ours+=("$rate")
                row_wise "$1"
                rows+=("$rate")
                printf '%-8s %-9s %-5s %4s %12d %12d %12d\n' "$1" "$path" "$as" "$run" "${pipes[-1]}" "${ours[-1]}" "${rows[-1]}"
            done
            ratios "$1" "$path" "$as" "$(median "${pipes[@]}")" "$(median "${ours[@]}")" "$(median "${rows[@]}")"
        done
    done
}

ratios() {
    printf '%-8s %-9s %-5s  med %12d %12d %12d   of the pipe: %s, row-wise %s\n' "$@" \
        "$(ratio "$5" "$4")" "$(ratio "$6" "$4")"
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

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

# Single-row INSERTs of prepared statements, 500 a transaction, one round trip each. 20,000 rows. Sets $rate.
row_wise() {
    local begun script=$bench/row-wise.sql columns
    columns=$(sql "$source_port" -c "SELECT count(*) FROM pg_attribute WHERE attrelid = '$1'::regclass AND attnum > 0")
    empty_target "$1"
    {
        echo "PREPARE i AS INSERT INTO $1 VALUES ($(seq -s, -f '$%g' "$columns"));"
        sql "$source_port" -c "SELECT CASE WHEN n % 500 = 1 THEN 'BEGIN;' ELSE '' END || 'EXECUTE i(' || v || ');'
            || CASE WHEN n % 500 = 0 THEN 'COMMIT;' ELSE '' END FROM (
            SELECT row_number() OVER () AS n, (SELECT string_agg(quote_nullable(value), ',') FROM json_each_text(to_json(t))) AS v
            FROM $1 t LIMIT 20000) q"
    } >"$script"
    begun=$(microseconds)
    sql "$target_port" -f "$script" >/dev/null
    rate=$((20000 * 1000000 / ($(microseconds) - begun)))
}

# begin PATH: a new and empty towline, whose ports are in $kafka, $registry and $connect.
begin() {
    # The files of the run before are still there: ext4 takes its time to use those again that were just removed.
    rm -rf "$bench/before"
    if [ -d "$bench/towline" ]; then mv "$bench/towline" "$bench/before"; fi
    kafka=$(free_port) registry=$(free_port) connect=$(free_port)
    CONNECT_TOWLINE_KAFKA_ADAPTER=$1 start_towline "$bench" "$kafka" "$registry" "$connect" "$(free_port)"
}

# pipeline TABLE ROWS PATH CONVERTER: from the first POST to the last row committed in the target. Sets $rate.
pipeline() {
    local begun
    empty_target "$1"
    begin "$3"
    write_connectors "$1" "$4"
    begun=$(microseconds)
    post_connector "$connect" "$bench/source.json"
    post_connector "$connect" "$bench/sink.json"
    wait_for_rows "$1" "$2"
    rate=$(($2 * 1000000 / ($(microseconds) - begun)))
    check "$1"
    stop_towline
}

empty_target() { sql "$target_port" -c "TRUNCATE $1" -c 'CHECKPOINT'; }

# Ids are written in order, so the last one is there when all are. One session asks, for this one row: the largest id
# would be looked for behind all rows that are not committed yet.
wait_for_rows() {
    wait_until "EXISTS (SELECT FROM $1 WHERE id = $2)"
}

# wait_until CONDITION: until it holds in the target.
wait_until() {
    wait_in_target "$1" "WHILE NOT ($1) LOOP COMMIT; PERFORM pg_sleep(0.01); END LOOP;"
}

# wait_for_tables COUNT ROWS: until tables many_1 to many_COUNT have so many rows each, looking at one at a time.
wait_for_tables() {
    wait_in_target "many_1 to many_$1 have $2 rows each" "
        FOR n IN 1..$1 LOOP LOOP
            EXECUTE 'SELECT id FROM many_' || n || ' WHERE id = $2' INTO last;
            EXIT WHEN last IS NOT NULL;
            COMMIT;
            PERFORM pg_sleep(0.01);
        END LOOP; END LOOP;"
}

# wait_in_target WHAT STATEMENTS: runs the statements; fails with WHAT if they take too long.
wait_in_target() {
    sql "$target_port" >/dev/null 2>&1 <<SQL || fail "$1"
SET statement_timeout = '600s';
DO \$\$ DECLARE last int; BEGIN
    $2
END \$\$;
SQL
}

fail() {
    failed_connector "$connect" >&2 || true
    tail -n 20 "$bench/towline.log" >&2
    die "this did not come true in the target: $1"
}

check() {
    "$towline" verify --table "$1" --truncate-timestamps ms \
        --source "jdbc:postgresql://localhost:$source_port/bench?user=bench&password=bench" \
        --target "jdbc:postgresql://localhost:$target_port/bench?user=bench&password=bench" >"$bench/verify" || {
        cat "$bench/verify" >&2
        die "the tables differ"
    }
}

# write_connectors TABLE CONVERTER: more JSON properties in $SOURCE and $SINK, each with a leading comma.
write_connectors() {
    local common converter='"value.converter": "org.apache.kafka.connect.json.JsonConverter"'
    if [ "$2" = avro ]; then
        converter='"value.converter": "io.confluent.connect.avro.AvroConverter",
            "value.converter.schema.registry.url": "http://127.0.0.1:'$registry'"'
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

# Rows that are all there are written again: the reference is a staging table of 5,000 rows and one statement from there.
bench_upsert() {
    local run ours=() staged=() begun rows=${ROWS_UPSERT:-300000}
    printf '%-8s %4s %12s %12s\n' upsert run staging towline
    fill events "$rows"
    for run in $(seq "$runs"); do
        refill
        staging_upsert "$rows"
        staged+=("$rate")
        refill
        begin embedded
        # The table is emptied of one row's note, so that the last write shows.
        sql "$target_port" -c "UPDATE events SET note = 'old' WHERE id = $rows"
        SINK=', "insert.mode": "upsert", "pk.mode": "record_value", "pk.fields": "id"' write_connectors events avro
        begun=$(microseconds)
        post_connector "$connect" "$bench/source.json"
        post_connector "$connect" "$bench/sink.json"
        wait_until "(SELECT note IS DISTINCT FROM 'old' FROM events WHERE id = $rows)"
        ours+=($((rows * 1000000 / ($(microseconds) - begun))))
        check events
        stop_towline
        printf '%-8s %4s %12d %12d\n' upsert "$run" "${staged[-1]}" "${ours[-1]}"
    done
    printf '%-8s  med %12d %12d   ratio %s\n' upsert "$(median "${staged[@]}")" "$(median "${ours[@]}")" \
        "$(ratio "$(median "${ours[@]}")" "$(median "${staged[@]}")")"
}

# The target holds the source's rows.
refill() {
    empty_target events
    pipe events 1
    sql "$target_port" -c 'VACUUM ANALYZE events' -c CHECKPOINT
}

# Sets $rate.
staging_upsert() {
    local begun page=5000 from script=$bench/staging.sql data=$bench/page
    mkdir -p "$data"
    {
        echo 'CREATE TEMPORARY TABLE s (LIKE events) ON COMMIT DELETE ROWS;'
        for from in $(seq 1 $page "$1"); do
            sql "$source_port" -c "COPY (SELECT * FROM events WHERE id >= $from AND id < $from + $page) TO STDOUT (FORMAT binary)" \
                >"$data/$from"
            printf "BEGIN;\n\\copy s FROM '%s' (FORMAT binary)\n" "$data/$from"
            echo 'INSERT INTO events SELECT * FROM s ON CONFLICT (id) DO UPDATE SET event = EXCLUDED.event,
                title = EXCLUDED.title, body = EXCLUDED.body, amount = EXCLUDED.amount, happened = EXCLUDED.happened,
                valid = EXCLUDED.valid, note = EXCLUDED.note; COMMIT;'
        done
    } >"$script"
    begun=$(microseconds)
    sql "$target_port" -f "$script" >/dev/null
    rate=$(($1 * 1000000 / ($(microseconds) - begun)))
    rm -rf "$data"
}

# A hundred tables and four tasks beside one table and one task.
bench_tables() {
    local each=${ROWS_TABLES:-10000} begun n list all one many
    fill iris $((each * 100))
    pipeline iris $((each * 100)) embedded avro
    one=$rate
    for n in $(seq 100); do
        sql "$source_port" -c "CREATE TABLE many_$n AS SELECT * FROM iris ORDER BY id LIMIT $each" \
            -c "ALTER TABLE many_$n ADD PRIMARY KEY (id)" -c "VACUUM ANALYZE many_$n"
        sql "$target_port" -c "CREATE TABLE many_$n (LIKE iris INCLUDING INDEXES)"
    done
    list=$(seq -s, -f 'many_%g' 100)
    all=$(seq -s, -f 'bench-many_%g' 100)
    begin embedded
    SOURCE=', "tasks.max": "4"' SINK=', "tasks.max": "4"' write_connectors "$list" avro
    local route='"transforms": "r", "transforms.r.type": "RegexRouter", "transforms.r.regex": "bench-(.*)", "transforms.r.replacement": "$1"'
    sed -i -e "s/\"topics\": \"[^\"]*\"/\"topics\": \"$all\"/" -e "s/\"table.name.format\": \"[^\"]*\"/$route/" "$bench/sink.json"
    begun=$(microseconds)
    post_connector "$connect" "$bench/source.json"
    post_connector "$connect" "$bench/sink.json"
    wait_for_tables 100 "$each"
    many=$((each * 100 * 1000000 / ($(microseconds) - begun)))
    stop_towline
    for n in $(seq 100); do
        sql "$source_port" -c "DROP TABLE many_$n"
        sql "$target_port" -c "DROP TABLE many_$n"
    done
    printf '%-8s one table %d rows/s, 100 tables %d rows/s, ratio %s\n' tables "$one" "$many" "$(ratio "$many" "$one")"
}

# Both servers note when each transaction committed, by the same clock.
bench_latency() {
    local port seconds=${SECONDS_LATENCY:-20}
    for port in "$source_port" "$target_port"; do
        sql "$port" -c 'DROP TABLE IF EXISTS ticks' -c 'CREATE TABLE ticks (id bigserial PRIMARY KEY, note text)'
    done
    begin embedded
    SOURCE=', "poll.interval.ms": "10"' write_connectors ticks avro
    post_connector "$connect" "$bench/source.json"
    post_connector "$connect" "$bench/sink.json"
    sql "$source_port" -c "INSERT INTO ticks (note) VALUES ('first')"
    wait_until "(SELECT count(*) = 1 FROM ticks)"
    sql "$source_port" >/dev/null <<SQL
DO \$\$ BEGIN
    FOR i IN 1..$((seconds * 100)) LOOP
        INSERT INTO ticks (note) SELECT 'tick ' || i FROM generate_series(1, 5);
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END \$\$;
SQL
    wait_until "(SELECT count(*) = 1 + 5 * $((seconds * 100)) FROM ticks)"
    sql "$target_port" -c 'DROP TABLE IF EXISTS began' -c 'CREATE TABLE began (id int8, at timestamptz)'
    sql "$source_port" -c 'COPY (SELECT id, pg_xact_commit_timestamp(xmin) FROM ticks WHERE id > 1) TO STDOUT' |
        sql "$target_port" -c 'COPY began FROM STDIN'
    sql "$target_port" -F '  ' -c "
        WITH took AS (SELECT extract(epoch FROM pg_xact_commit_timestamp(t.xmin) - b.at) * 1000 AS ms FROM ticks t JOIN began b USING (id))
        SELECT 'latency  ' || count(*) || ' rows',
            'p50 ' || round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 1) || ' ms',
            'p99 ' || round((percentile_cont(0.99) WITHIN GROUP (ORDER BY ms))::numeric, 1) || ' ms',
            'max ' || round(max(ms)::numeric, 1) || ' ms' FROM took"
    stop_towline
}

bench_memory() {
    local rows=${ROWS_MEMORY:-2000000}
    fill events "$rows"
    empty_target events
    begin embedded
    write_connectors events avro
    post_connector "$connect" "$bench/source.json"
    post_connector "$connect" "$bench/sink.json"
    wait_for_rows events "$rows"
    printf '%-8s %d rows of 355 bytes: peak %d MiB\n' memory "$rows" "$(peak)"
    stop_towline
    for port in "$source_port" "$target_port"; do
        sql "$port" -c 'DROP TABLE IF EXISTS wide' -c 'CREATE TABLE wide (id bigserial PRIMARY KEY, data text)'
    done
    sql "$source_port" -c "INSERT INTO wide (data) SELECT repeat(md5(i::text), 32768) FROM generate_series(1, 500) i"
    begin embedded
    SOURCE=', "topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1",
        "topic.creation.default.max.message.bytes": "4000000"' write_connectors wide avro
    post_connector "$connect" "$bench/source.json"
    post_connector "$connect" "$bench/sink.json"
    wait_for_rows wide 500
    printf '%-8s 500 rows of 1 MiB: peak %d MiB\n' memory "$(peak)"
    stop_towline
}

# MiB of the largest resident set so far.
peak() { awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$towline_pid/status"; }

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

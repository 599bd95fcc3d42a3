#!/usr/bin/env bash
# make demo: two PostgreSQL clusters and towline, all throw-away; 200,000 rows and those that keep arriving go from one
# to the other; then every row is compared. KEEP=1 leaves it all running until Ctrl-C. ROWS=n moves n rows.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"

demo=$root/.demo
rows=${ROWS:-200000}
towline_pid='' generator_pid=''

main() {
    trap stop EXIT
    trap 'exit 130' INT TERM
    build_release
    take_folder
    start
    fill_source
    start_generator
    move_rows
    compare
    if [ -n "${KEEP:-}" ]; then
        stay
    fi
}

take_folder() {
    if [ -f "$demo/pid" ] && kill -0 "$(cat "$demo/pid")" 2>/dev/null; then
        trap - EXIT
        die "a demo is running already: process $(cat "$demo/pid")"
    fi
    clean # What a killed demo left.
    mkdir -p "$demo"
    echo $$ >"$demo/pid"
}

start() {
    source_port=$(free_port 5432)
    target_port=$(free_port 5433)
    say "starting two PostgreSQL clusters on ports $source_port and $target_port"
    start_postgres "$demo/source" "$source_port" myuser mypassword mydatabase
    start_postgres "$demo/target" "$target_port" targetuser targetpassword targetdatabase
    kafka=$(free_port 9092)
    registry=$(free_port 8081)
    connect=$(free_port 8083)
    ui=$(free_port 8080)
    start_towline "$demo" "$kafka" "$registry" "$connect" "$ui"
    say "towline is up: Kafka localhost:$kafka, registry http://localhost:$registry, Connect http://localhost:$connect," \
        "page http://localhost:$ui"
}

source_sql() {
    PGPASSWORD=mypassword "$(postgres_bin)/psql" -qAtX -v ON_ERROR_STOP=1 -h localhost -p "$source_port" -U myuser \
        -d mydatabase "$@"
}

target_sql() {
    PGPASSWORD=targetpassword "$(postgres_bin)/psql" -qAtX -v ON_ERROR_STOP=1 -h localhost -p "$target_port" \
        -U targetuser -d targetdatabase "$@"
}

# The 150 rows of examples/iris.csv, again and again, each value moved by up to 0.05.
fill_source() {
    say "filling the source table with $rows rows"
    source_sql -f "$here/iris_data.sql"
    target_sql -f "$here/iris_data.sql"
    source_sql <<SQL
CREATE TABLE iris (n serial, sepal_length float8, sepal_width float8, petal_length float8, petal_width float8, target int);
\copy iris (sepal_length, sepal_width, petal_length, petal_width, target) from '$here/iris.csv' with (format csv, header)
INSERT INTO iris_data ("timestamp", sepal_length, sepal_width, petal_length, petal_width, target)
SELECT localtimestamp - ($rows - i) * interval '1 second', round((sepal_length + noise)::numeric, 3),
       round((sepal_width + noise)::numeric, 3), round((petal_length + noise)::numeric, 3),
       round((petal_width + noise)::numeric, 3), target
FROM generate_series(1, $rows) AS i CROSS JOIN LATERAL (SELECT random() / 10 - 0.05 AS noise WHERE i > 0) AS jitter
JOIN iris ON n = 1 + i % 150 ORDER BY i;
SQL
}

# Twenty new rows a second, each in a transaction of its own, until it is told to stop.
start_generator() {
    local insert='INSERT INTO iris_data ("timestamp", sepal_length, sepal_width, petal_length, petal_width, target)
        SELECT localtimestamp, sepal_length, sepal_width, petal_length, petal_width, target
        FROM iris ORDER BY random() LIMIT 1;'
    exec 4> >(source_sql)
    (while sleep 0.05; do echo "$insert" >&4; done) &
    generator_pid=$!
    exec 4>&-
}

stop_generator() {
    if [ -n "$generator_pid" ]; then
        kill "$generator_pid" 2>/dev/null || true
        wait "$generator_pid" 2>/dev/null || true
        generator_pid=''
    fi
}

# The files are examples/*.json; only the ports change.
post() {
    sed -e "s/localhost:5432/localhost:$source_port/; s/localhost:5433/localhost:$target_port/" \
        "$here/$1" >"$demo/$1"
    post_connector "$connect" "$demo/$1"
}

last_row() { "$1_sql" -c 'SELECT coalesce(max(id), 0) FROM iris_data'; }

milliseconds() {
    local now
    now=$(date +%s%3N)
    case $now in
    *N) echo "${now%3N}000" ;; # Not every system's date knows parts of a second.
    *) echo "$now" ;;
    esac
}

move_rows() {
    local begun now written=0 before=0 read changed
    say "posting examples/source_connector.json and examples/sink_connector.json"
    begun=$(milliseconds)
    changed=$SECONDS
    post source_connector.json
    post sink_connector.json
    while :; do
        written=$(last_row target)
        now=$(milliseconds)
        read=$(last_row source)
        progress "$written" "$read" $((now - begun))
        if [ "$written" -ge "$rows" ]; then
            break
        fi
        if [ "$written" -ne "$before" ]; then
            before=$written
            changed=$SECONDS
        elif failed_connector "$connect" >&2 || [ $((SECONDS - changed)) -ge 60 ]; then
            tail -n 20 "$demo/towline.log" >&2
            die "the rows do not move"
        fi
        sleep 0.1
    done
    rate=$((rows * 1000 / (now - begun)))
    say
    say "$rows rows in $(tenths $((now - begun))) s, from the first POST: $rate rows/s"
    follow
}

# What arrives now goes through one by one: the time from the insert to the row in the target.
follow() {
    sleep 2
    stop_generator
    local last
    last=$(last_row source)
    until_true 30 row_arrived "$last" || die "row $last did not arrive in 30 s"
    say "and $((last - rows)) rows that arrived meanwhile"
}

row_arrived() { [ "$(last_row target)" -ge "$1" ]; }
tenths() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# progress WRITTEN READ MILLISECONDS
progress() {
    local width=40 filled end=$'\n'
    filled=$(($1 >= rows ? width : $1 * width / rows))
    if [ -t 2 ]; then
        printf '\r' >&2
        end=''
    fi
    printf '  [%-*s] %7d rows  %7d rows/s  lag %6d rows %s' $width "$(printf '%*s' $filled '' | tr ' ' '#')" "$1" \
        $(($1 * 1000 / ($3 + 1))) $(($2 > $1 ? $2 - $1 : 0)) "$end" >&2
}

compare() {
    source_url="jdbc:postgresql://localhost:$source_port/mydatabase?user=myuser&password=mypassword"
    target_url="jdbc:postgresql://localhost:$target_port/targetdatabase?user=targetuser&password=targetpassword"
    say "comparing the tables row by row"
    "$towline" verify --source "$source_url" --target "$target_url" --table iris_data \
        --truncate-timestamps ms
    say "both tables are the same"
}

stay() {
    cat <<TEXT

Everything stays up until Ctrl-C. Try:
  curl http://localhost:$connect/connectors?expand=status
  curl http://localhost:$connect/connector-plugins
  curl http://localhost:$registry/subjects
  $towline kafka-topics --bootstrap-server localhost:$kafka --list
  $towline kafka-console-consumer --bootstrap-server localhost:$kafka --topic postgres-source-iris_data --from-beginning --max-messages 3
  PGPASSWORD=mypassword psql -h localhost -p $source_port -U myuser mydatabase
  PGPASSWORD=targetpassword psql -h localhost -p $target_port -U targetuser targetdatabase
  $towline verify --source '$source_url' --target '$target_url' --table iris_data --truncate-timestamps ms
  the page: http://localhost:$ui    the log: $demo/towline.log
TEXT
    start_generator
    wait "$towline_pid"
}

stop() {
    local code=$?
    trap '' INT TERM
    stop_generator
    if [ -n "$towline_pid" ]; then
        kill "$towline_pid" 2>/dev/null || true
        wait "$towline_pid" 2>/dev/null || true
    fi
    clean
    exit $code
}

clean() {
    remove_postgres "$demo/source"
    remove_postgres "$demo/target"
    rm -rf "$demo"
}

main

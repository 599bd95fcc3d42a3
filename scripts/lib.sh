# shellcheck shell=bash
# What the scripts share: messages, free ports, throw-away PostgreSQL clusters, waiting. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
towline=${TOWLINE:-$target/release/towline} # $TOWLINE names a binary that is there already.
export root target towline PATH

say() { printf '%s\n' "$*" >&2; }
# The release binary, unless $TOWLINE says which one to take.
build_release() {
    if [ -z "${TOWLINE:-}" ]; then
        say "building the release binary (the first time takes a few minutes)"
        (cd "$root" && cargo build --release --quiet -p towline --bin towline)
    fi
}

die() { say "error: $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# The folder of PostgreSQL's server programs, the newest if there are several; fails where there is none.
postgres_bin() {
    local found folder
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/psql" ]; then
            found+="$folder"$'\n'
        fi
    done
    if [ -n "${found:-}" ]; then
        printf '%s' "$found" | sort -V | tail -n 1
    elif has initdb && has psql; then
        dirname "$(command -v initdb)"
    else
        return 1
    fi
}

# Whether nobody listens on a local port.
port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The first port of its arguments that is free, or else any free one.
# shellcheck disable=SC2120 # No arguments: any.
free_port() {
    local port
    for port in "$@"; do
        if port_is_free "$port"; then
            echo "$port"
            return
        fi
    done
    while :; do
        port=$((20000 + RANDOM % 12000))
        if port_is_free "$port"; then
            echo "$port"
            return
        fi
    done
}

# Runs a command as a user that PostgreSQL accepts: it refuses root.
as_postgres() {
    if [ "$(id -u)" -ne 0 ]; then
        "$@"
    elif has runuser; then
        runuser -u postgres -- "$@"
    else
        sudo -u postgres -- "$@"
    fi
}

# An empty folder that PostgreSQL's user may write to: $1, or one in the temporary folder that $1 points to.
postgres_folder() {
    mkdir -p "$1"
    if [ "$(id -u)" -eq 0 ]; then
        chown postgres "$1"
        if ! (cd / && as_postgres test -w "$1"); then
            rmdir "$1"
            ln -s "$(cd / && as_postgres mktemp -d "${TMPDIR:-/tmp}/towline.XXXXXX")" "$1"
        fi
    fi
}

# start_postgres FOLDER PORT USER PASSWORD DATABASE [SETTING...]: a cluster of our own, on TCP alone.
start_postgres() {
    local folder=$1 port=$2 user=$3 password=$4 database=$5 bin setting settings=()
    bin=$(postgres_bin)
    shift 5
    for setting in "port=$port" listen_addresses=localhost unix_socket_directories= logging_collector=off "$@"; do
        settings+=(-o "-c $setting")
    done
    postgres_folder "$folder"
    folder=$(cd "$folder" && pwd -P)
    (
        cd / # The user postgres may not enter the folder that we are in.
        # shellcheck disable=SC2016 # The inner shell expands it.
        # The password goes in by a pipe and a file: it appears in no list of processes.
        printf '%s\n' "$password" | as_postgres sh -c 'umask 077; cat >"$1"' sh "$folder/password" &&
            as_postgres "$bin/initdb" -D "$folder/data" -U "$user" -E UTF8 --no-sync --auth=scram-sha-256 \
                --pwfile="$folder/password" >/dev/null &&
            as_postgres "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w -t 60 "${settings[@]}" start >/dev/null
    ) || die "PostgreSQL did not start, see $folder/log"
    PGPASSWORD=$password "$bin/createdb" -h localhost -p "$port" -U "$user" "$database"
}

# Stops the cluster and removes it, wherever its folder really is.
remove_postgres() {
    local folder=$1 real
    if [ -d "$folder" ]; then
        real=$(cd "$folder" && pwd -P)
        (cd / && as_postgres "$(postgres_bin)/pg_ctl" -D "$real/data" -m immediate -w stop >/dev/null 2>&1) || true
        rm -rf "$real" "$folder"
    fi
}

# until_true SECONDS COMMAND...: polls ten times a second; fails when time is up.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            return 1
        fi
        sleep 0.1
    done
}

# start_towline FOLDER KAFKA REGISTRY CONNECT UI (ports): sets $towline_pid; returns when every part answers.
start_towline() {
    local folder=$1 log=$1/towline.log
    "$towline" up --data-dir "$folder/towline" --kafka "127.0.0.1:$2" --registry "127.0.0.1:$3" \
        --connect "127.0.0.1:$4" --ui "127.0.0.1:$5" >"$log" 2>&1 </dev/null &
    # shellcheck disable=SC2034 # The caller stops it.
    towline_pid=$!
    if ! until_true 30 "$towline" health --kafka "127.0.0.1:$2" --registry "http://127.0.0.1:$3" \
        --connect "http://127.0.0.1:$4"; then
        tail -n 20 "$log" >&2
        die "towline did not start"
    fi
}

# post_connector CONNECT_PORT FILE
post_connector() {
    local answer
    answer=$(curl -sS -w '\n%{http_code}' -X POST "http://127.0.0.1:$1/connectors" -H 'Content-Type: application/json' \
        -d @"$2")
    if [ "${answer##*$'\n'}" != 201 ]; then
        die "the worker refused $2: $answer"
    fi
}

# failed_connector CONNECT_PORT: prints the status of connectors that failed, or of tasks; fails if all is well.
failed_connector() {
    curl -sS "http://127.0.0.1:$1/connectors?expand=status" | grep FAILED
}

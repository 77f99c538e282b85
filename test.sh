#!/usr/bin/env bash
# Runs all tests against a real PostgreSQL and a real Redis that it starts, and stops, by itself.
#
#   ./test.sh                          the whole suite
#   ./test.sh --long                   with the long random runs
#   ./test.sh --test contract tokens   anything else goes to `cargo test`
#
# Needs Debian 12 (or like it) and Rust. What else is missing it installs with apt, as root or through sudo without a
# password; otherwise it says what to install. Works from any folder, with or without CARGO_TARGET_DIR.
set -euo pipefail

features="failpoints" # --features for cargo test
threads=$(nproc)
# Each test may hold an embedded database of 240 MB, or a pool of connections to the one PostgreSQL.
if ((threads < 2)); then threads=2; elif ((threads > 8)); then threads=8; fi

cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
started=$SECONDS
folder=""
postgres_pid=""
redis_pid=""
tests_pid=""

say() { printf 'test.sh: %s\n' "$*"; }
give_up() {
    printf 'test.sh: %s\n' "$*" >&2
    exit 1
}

stop_process() { # pid signal
    [[ -n $1 ]] && kill -0 "$1" 2>/dev/null || return 0
    kill "-$2" "$1" 2>/dev/null || true
    for _ in {1..100}; do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}

clean_up() {
    local code=$?
    trap - EXIT INT TERM
    if [[ -n $tests_pid ]]; then kill -TERM -- "-$tests_pid" 2>/dev/null || true; fi
    stop_process "$postgres_pid" INT
    stop_process "$redis_pid" TERM
    if [[ -n $folder ]]; then rm -rf "$folder"; fi
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

find_postgres() { # the folder with the newest server's programs
    local candidate
    for candidate in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) /usr/pgsql-*/bin "$(dirname "$(command -v initdb || true)")"; do
        if [[ -x $candidate/initdb && -x $candidate/postgres && -x $candidate/pg_isready ]]; then
            echo "$candidate"
            return
        fi
    done
}

install_missing() {
    local packages=()
    [[ -n $(find_postgres) ]] || packages+=(postgresql)
    command -v redis-server >/dev/null || packages+=(redis-server)
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
    ((${#packages[@]})) || return 0
    local advice="install ${packages[*]} and run this again (Debian: sudo apt-get install -y ${packages[*]})"
    command -v apt-get >/dev/null || give_up "$advice"
    local as_root=()
    if ((EUID != 0)); then
        sudo -n true 2>/dev/null || give_up "$advice"
        as_root=(sudo -n)
    fi
    say "installing ${packages[*]} with apt"
    local log
    log=$(mktemp)
    if ! {
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
    } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        give_up "apt failed; $advice"
    fi
    rm -f "$log"
}

# Calls `$1 PORT` with random ports until the server that it starts in the background answers.
on_free_port() {
    local port
    for _ in {1..20}; do
        port=$((20000 + RANDOM % 12000))
        # Somebody already listens there.
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
        if "$1" "$port"; then
            free_port=$port
            return 0
        fi
    done
    return 1
}

start_postgres() { # port
    # From / because an unprivileged user may not enter this folder.
    (cd / && exec "${as_postgres[@]}" "$programs/postgres" -D "$folder/postgres" -k "$folder/socket" \
        -c listen_addresses=127.0.0.1 -c "port=$1" -c max_connections=200) >>"$folder/postgres.log" 2>&1 &
    postgres_pid=$!
    for _ in {1..300}; do
        kill -0 "$postgres_pid" 2>/dev/null || return 1
        if "$programs/pg_isready" -q -h 127.0.0.1 -p "$1"; then return 0; fi
        sleep 0.1
    done
    stop_process "$postgres_pid" INT
    return 1
}

start_redis() { # port
    redis-server --bind 127.0.0.1 --port "$1" --save '' --appendonly no --dir "$folder" >>"$folder/redis.log" 2>&1 &
    redis_pid=$!
    for _ in {1..100}; do
        kill -0 "$redis_pid" 2>/dev/null || return 1
        if [[ $(redis_ping "$1") == +PONG* ]]; then return 0; fi
        sleep 0.1
    done
    stop_process "$redis_pid" TERM
    return 1
}

redis_ping() { # port
    local answer=""
    {
        exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'PING\r\n' >&3 && IFS= read -r -t 1 answer <&3
    } 2>/dev/null || true
    echo "$answer"
}

arguments=()
for argument in "$@"; do
    case $argument in
        --long) export HUB_TEST_LONG=1 ;;
        *) arguments+=("$argument") ;;
    esac
done

command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
command -v cargo >/dev/null || give_up "Rust is missing: install it from https://rustup.rs and run this again"
install_missing

programs=$(find_postgres)
[[ -n $programs ]] || give_up "PostgreSQL is installed, but initdb was not found in /usr/lib/postgresql or PATH"
as_postgres=()
parent=${TMPDIR:-/tmp}
if ((EUID == 0)); then
    # PostgreSQL refuses to run as root.
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_postgres=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups)
    # A private temporary folder of root's is no place for another user's files.
    "${as_postgres[@]}" test -x "$parent" || parent=/tmp
fi
folder=$(mktemp -d "$parent/hub-test.XXXXXX")
chmod 755 "$folder"
mkdir "$folder/postgres" "$folder/socket"
if ((EUID == 0)); then chown "$user" "$folder/postgres" "$folder/socket"; fi

say "starting $("$programs/postgres" --version) and Redis in $folder"
(cd / && "${as_postgres[@]}" "$programs/initdb" -D "$folder/postgres" --username=hub --auth=trust --encoding=UTF8 \
    --no-locale --no-sync) >"$folder/initdb.log" 2>&1 || {
    cat "$folder/initdb.log" >&2
    give_up "PostgreSQL could not make its folder"
}
on_free_port start_postgres || {
    tail -n 20 "$folder/postgres.log" >&2
    give_up "PostgreSQL did not start"
}
export HUB_TEST_POSTGRES_URL="postgres://hub@127.0.0.1:$free_port/postgres"
on_free_port start_redis || {
    tail -n 20 "$folder/redis.log" >&2
    give_up "Redis did not start"
}
export HUB_TEST_REDIS_URL="redis://127.0.0.1:$free_port/"
say "PostgreSQL: $HUB_TEST_POSTGRES_URL, Redis: $HUB_TEST_REDIS_URL"

export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$threads}
if [[ -t 1 ]]; then export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}; fi
command=(cargo test --workspace --locked --no-fail-fast ${features:+--features "$features"} "${arguments[@]}")
say "running: ${command[*]} (building from nothing takes about 10 minutes on two cores)"
code=0
# In a process group of its own, so that an interrupted run leaves no test behind.
set -m
("${command[@]}" 2>&1 | tee "$folder/tests.log") &
tests_pid=$!
set +m
wait "$tests_pid" || code=$?
tests_pid=""

summary=$(awk '/^test result:/ { passed += $4; failed += $6; ignored += $8; suites++ }
    END { printf "%d passed, %d failed, %d ignored in %d suites", passed, failed, ignored, suites }' "$folder/tests.log")
elapsed=$((SECONDS - started))
say "$summary, $((elapsed / 60)) min $((elapsed % 60)) s"
if ((code != 0)); then
    { grep -E '^test .* \.\.\. FAILED$' "$folder/tests.log" || true; } | sed 's/^/test.sh: /'
    say "FAILED"
else
    say "all passed"
fi
exit "$code"

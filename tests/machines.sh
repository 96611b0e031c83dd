#!/usr/bin/env bash
# The suite on machines other than this one. Each case has its own home and caches, and prints one line.
#
#   tests/machines.sh              every case with the tests of `make quick`
#   tests/machines.sh all          every case with every test
#   tests/machines.sh [all] CASE…  these cases
#
# PYTHON is the interpreter (.venv/bin/python), WORKERS how many tests run at once (2). Logs are kept where a case fails.
set -uo pipefail
cd "$(dirname "$0")/.."
unset REPRISE_CI_INSTALLED # some cases are without what is installed
CASES=(avx2 baseline no-compiler one-core ascii no-home readonly-home odd-path no-browser)
python=$(cd "$(dirname "${PYTHON:-.venv/bin/python}")" && pwd)/$(basename "${PYTHON:-.venv/bin/python}")
part=(--quick)
case "${1:-}" in
    quick) shift ;;
    all) part=() && shift ;;
    -h | --help) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" && exit ;;
esac
chosen=("${@:-${CASES[@]}}")
[ $# -gt 0 ] || chosen=("${CASES[@]}")
for name in "${chosen[@]}"; do
    [[ " ${CASES[*]} " == *" $name "* ]] || { echo "no case '$name': ${CASES[*]}" >&2 && exit 2; }
done
work=$(mktemp -d "${TMPDIR:-/tmp}/machines.XXXXXX")
chmod 711 "$work" # the tests start PostgreSQL as another user
passed=0 failed=0 skipped=0

# count WORD: the number before it in pytest's last line but one, e.g. in "3 failed, 2901 passed, 41 skipped in 58.02s"
count() { grep -E '[0-9]+ [a-z]+.* in [0-9.]+s' "$log" | tail -1 | grep -oE "[0-9]+ $1" | grep -oE '[0-9]+' || echo 0; }

# check NAME COMMAND…: run the suite by this command, which gets the interpreter and its arguments added
check() {
    local name=$1 started=$SECONDS words status
    shift
    log=$work/$name.log
    mkdir -p "$work/$name/home"
    words=("$python" -m pytest -q -n "${WORKERS:-2}" --dist worksteal -p no:cacheprovider --basetemp="$work/$name/tmp")
    HOME=$work/$name/home XDG_CACHE_HOME=$work/$name/cache "$@" "${words[@]}" "${part[@]}" >"$log" 2>&1
    status=$?
    local p f s
    p=$(count passed) s=$(count skipped) f=$(($(count failed) + $(count 'errors?')))
    [ "$status" = 0 ] || [ "$f" != 0 ] || f=1
    printf '%-14s %5d passed %3d failed %3d skipped %5d s\n' "$name" "$p" "$f" "$s" $((SECONDS - started))
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ "$f" = 0 ] || { grep -E '^(FAILED|ERROR)' "$log" || tail -5 "$log"; echo "  $log"; } | cut -c1-200
    rm -rf "${work:?}/$name"
}

left_out() { printf '%-14s left out: %s\n' "$1" "$2"; }

# whether this user may give a process a view of the file system of its own
can_mount() { unshare -m true 2>/dev/null; }

run_avx2() { check avx2 env ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 REPRISE_INSTRUCTION_SET=avx2; }

run_baseline() { check baseline env ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default REPRISE_INSTRUCTION_SET=baseline; }

run_no-compiler() { check no-compiler env CC=/bin/false CXX=/bin/false; }

run_one-core() {
    command -v taskset >/dev/null || { left_out one-core "no taskset (apt-get install util-linux)" && return; }
    check one-core taskset -c "$(taskset -cp $$ | grep -oE '[0-9]+' | sed -n 2p)"
}

run_ascii() { check ascii env -u LANG -u LANGUAGE -u LC_CTYPE LC_ALL=C PYTHONUTF8=0; }

# HOME unset and, where it can be hidden, no entry of the user's in /etc/passwd either, as in many a container
run_no-home() {
    local hidden=()
    can_mount && hidden=(unshare -m sh -c 'mount --bind /dev/null /etc/passwd; exec "$@"' sh)
    check no-home "${hidden[@]}" env -u HOME -u XDG_CACHE_HOME
}

run_readonly-home() {
    local home=$work/readonly
    mkdir -p "$home"
    if [ "$(id -u)" != 0 ]; then
        chmod 555 "$home"
        check readonly-home env -u XDG_CACHE_HOME HOME="$home"
    elif can_mount; then
        check readonly-home unshare -m sh -c 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"' \
            "$home" env -u XDG_CACHE_HOME HOME="$home"
    else
        left_out readonly-home "root may write everywhere, and mounts aren't allowed here"
    fi
}

# a copy of this checkout, changes and all, with an environment of its own over the installed packages
run_odd-path() {
    local odd="$work/Größe & Maß/mit Leerzeichen" packages ours=$python
    mkdir -p "$odd"
    git clone -q . "$odd" && git ls-files -coz --exclude-standard | xargs -0 cp --parents -t "$odd" || return
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$python" -m venv --without-pip "$odd/.venv"
    printf 'import sys, site; sys.path.insert(0, %s); site.addsitedir(%s)\n' "'$odd'" "'$packages'" \
        >"$("$odd/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/reprise.pth"
    python=$odd/.venv/bin/python
    pushd "$odd" >/dev/null && check odd-path env && popd >/dev/null
    python=$ours
    rm -rf "$odd"
}

# the browser's tests belong to no quick part: here they are skipped, and the last line says so
run_no-browser() {
    local bin=$work/bin folder before=("${part[@]}")
    mkdir -p "$bin"
    while read -r -d: folder; do ln -s "$folder"/* "$bin/" 2>/dev/null; done <<<"$PATH:"
    rm -f "$bin"/{chromium,chromium-browser,google-chrome*,chrome}
    [ ${#part[@]} = 0 ] || part=(tests/render/test_page.py tests/serving/test_playground*.py)
    check no-browser env PATH="$bin"
    part=("${before[@]}")
}

for name in "${chosen[@]}"; do "run_$name"; done
printf '%-14s %5d passed %3d failed %3d skipped %5d s\n' total "$passed" "$failed" "$skipped" $SECONDS
if [ "$failed" = 0 ]; then rm -rf "$work"; else exit 1; fi

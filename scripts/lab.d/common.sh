# shellcheck shell=bash
# Messages, folders, and the cache of built things. Sourced first, by `lab` and by `images`.

set -euo pipefail
umask 022

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PARTS=$SCRIPTS/lab.d
REPO=$(dirname "$SCRIPTS")
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/pod-chaos/lab
export SCRIPTS PARTS REPO CACHE

STEP_START=${EPOCHREALTIME/[.,]/}

# Seconds since the command began, with one decimal.
elapsed() {
  local us=$((${EPOCHREALTIME/[.,]/} - STEP_START))
  printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}

say() { printf '%7ss  %s\n' "$(elapsed)" "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die MESSAGE [HINT]
die() {
  printf 'error: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
  exit 1
}

hash_of() { sha256sum | cut -c1-12; }

# cached NAME INPUTS BUILDER [ARGUMENT...]
#
# Sets CACHED to the folder of a built thing, and builds it first when it is not there. The folder's
# name holds a hash of INPUTS and of the builder's own code. The builder runs in a subshell inside an
# empty folder that gets its final name only when everything in it is done, so an interrupted build
# leaves nothing that looks finished. Builds of the same name that nobody used for a month go.
cached() {
  local name=$1 inputs=$2 builder=$3
  shift 3
  local hash
  hash=$({ printf "%s\n" "$inputs" && declare -f "$builder"; } | hash_of)
  CACHED=$CACHE/$name-$hash
  if [ -e "$CACHED" ]; then
    touch "$CACHED"
    return
  fi
  local work=$CACHE/.building-$name-$hash
  mkdir -p "$CACHE"
  # The lock is on a file of its own and not on the folder, which is about to be renamed.
  exec {lock}>"$work.lock"
  flock "$lock"
  if [ ! -e "$CACHED" ]; then
    rm -rf "$work"
    mkdir "$work"
    say "building $name (log: $work.log)"
    # A builder that fails must not end this shell without a word, and `set -e` must hold in it.
    local status=0
    bash -c 'set -euo pipefail; source "$PARTS/common.sh"; '"$(declare -f "$builder")"'; cd "$1"; shift; "$@"' \
      "$name" "$work" "$builder" "$@" >"$work.log" 2>&1 </dev/null || status=$?
    if [ "$status" != 0 ]; then
      tail -n 15 "$work.log" >&2
      die "building $name: exit code $status" "the whole log is $work.log"
    fi
    mv "$work" "$CACHED"
    rm -f "$work.log"
    find "$CACHE" -maxdepth 1 -name "$name-????????????" -mtime +30 -exec rm -rf {} +
    say "built $name"
  fi
  rm -f "$work.lock"
  exec {lock}>&-
}

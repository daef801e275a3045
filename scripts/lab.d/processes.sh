# shellcheck shell=bash
# Processes of the lab: started in its network namespace, ended by pid and start time.

# When PID was started, in clock ticks since boot; fails when there is no such process.
# A pid together with this names one process for ever, a pid alone may be somebody else's by now.
started_at() {
  local stat rest
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # After the command's name, which may hold anything: state is field 3, start time field 22.
  read -ra rest <<<"${stat##*) }"
  [ "${rest[0]}" != Z ] && echo "${rest[19]}"
}

# start NAME COMMAND...
start() {
  local name=$1 pid
  shift
  setsid nsenter --net="/run/netns/$NETNS" "$@" >>"$RUN/log/$name" 2>&1 </dev/null {LOCK}>&- &
  pid=$!
  echo "$pid $(started_at "$pid")" >"$RUN/pid/$name"
}

running() {
  local pid at
  read -r pid at 2>/dev/null <"$RUN/pid/$1" && [ "$(started_at "$pid")" = "$at" ]
}

# stop NAME [SECONDS]: asks, waits, then kills. Harmless when it does not run.
stop() {
  local name=$1 patience=${2:-5} pid
  if running "$name"; then
    read -r pid _ <"$RUN/pid/$name"
    [ "$patience" = 0 ] || kill "$pid" 2>/dev/null || true
    for ((i = 0; i < patience * 20; i++)); do
      running "$name" || break
      sleep 0.05
    done
    ! running "$name" || kill -KILL "$pid" 2>/dev/null || true
    while running "$name"; do sleep 0.02; done
  fi
  rm -f "$RUN/pid/$name"
}

# wait_for SECONDS WHAT PROCESS COMMAND...: until COMMAND succeeds, but no longer than PROCESS lives.
wait_for() {
  local seconds=$1 what=$2 process=$3 deadline
  deadline=$((SECONDS + seconds))
  shift 3
  until "$@" >/dev/null 2>&1; do
    running "$process" || gave_up "$process" "waiting for $what: $process has ended"
    [ "$SECONDS" -lt "$deadline" ] || gave_up "$process" "waiting for $what: not after $seconds s"
    sleep 0.1
  done
  say "$what"
}

# gave_up PROCESS MESSAGE: with the last of what the process said, which may be all that is kept.
gave_up() {
  tail -n 10 "$RUN/log/$1" >&2 || true
  die "$2" "scripts/lab logs $1"
}

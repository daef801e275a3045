# shellcheck shell=bash
# The guest node: Linux as a program, its root file system the machine's own, read-only.

GUEST_STATE=/run/lab
GUEST_PORT=7070

# In megabytes: 3 GiB, or half of what a small machine has free.
guest_memory() {
  awk '$1 == "MemAvailable:" { half = int($2 / 2048); print half < 3072 ? half : 3072 }' /proc/meminfo
}

# one_processor [TURN]: a processor for a guest, the last of those this shell may use, or the TURNth. The kernel
# program and the guest's processes run by turns; handing over within one processor takes 0.4 of the time.
one_processor() {
  local list range all=()
  list=$(awk '$1 == "Cpus_allowed_list:" { gsub(",", " ", $2); print $2 }' /proc/self/status)
  for range in $list; do
    mapfile -t -O ${#all[@]} all < <(seq "${range%-*}" "${range#*-}")
  done
  echo "${all[(${1:-0} - 1) % ${#all[@]}]}"
}

start_guest() {
  network_guest
  node_config guest "$GUEST_PODS" "$GUEST4" "$GUEST_STATE" crun false
  cat >"$RUN/node/guest/env" <<EOT
RUN=$RUN
CACHE=$CACHE
REPO=$REPO
IMAGES="${IMAGE_FILES[*]}"
NODETOOL=$NODETOOL
STATE=$GUEST_STATE
LISTEN=$GUEST4:$GUEST_PORT
KUBELET="$(kubelet_command guest "$GUEST4,$GUEST6" "$GUEST_STATE")"
PROXY="$(proxy_command guest)"
ADDRESSES="$GUEST4/24 $GUEST6/64"
GATEWAYS="$LINK4 $LINK6"
BRIDGE_ADDRESS=$BRIDGE_ADDRESS
BRIDGE="10.244.$GUEST_PODS.1/24 fd00:10:244:$GUEST_PODS::1/64"
EOT
  local memory
  memory=$(guest_memory)
  [ "$memory" -ge 1024 ] || warn "only $memory MiB for the guest: it may be too little"
  # A pid namespace of its own: whatever way this ends, no part of the guest outlives it.
  start guest taskset -c "$(one_processor)" unshare --mount --propagation private --pid --fork --kill-child \
    "$PARTS/guest-boot" "$KERNEL" "$memory" "$PARTS/guest-init" "$RUN/node/guest/env" \
    vec0:transport=tap,ifname=guest0,depth=128,gro=1
}

guest_run() { inside "$NODETOOL" run "$GUEST4:$GUEST_PORT" "$RUN/token" "$@"; }

# A guest of its own for one command, beside the lab or without it: its standard output and error come out
# here together, its exit code is this command's.
lab_kernel() {
  local version=6.12 memory=1024 work status slot turn=1
  case ${1:-} in [0-9]*) version=$1; shift ;; esac
  [ "${1:-}" != -- ] || shift
  [ $# -gt 0 ] || die "run what?" "scripts/lab kernel 6.1 -- COMMAND…"
  kernel_suite "$version" >/dev/null
  need_root
  need_packages "${LAB_PACKAGES[@]}"
  need_kernel "$version"
  work=$(mktemp -d)
  # shellcheck disable=SC2064 # now, while the name is known
  trap "rm -rf '$work'" EXIT
  # What the command can tell of its surroundings, it has.
  { export -p | grep -E '^declare -x (POD_CHAOS|RUST)_' || true; printf '%q ' "$@"; echo; } |
    sed 's/^declare -x /export /' >"$work/command"
  printf '%s=%q\n' RUN "$work" CACHE "$CACHE" REPO "$REPO" DIRECTORY "$PWD" COMMAND "$work/command" >"$work/env"
  # Those that run beside each other spread over the processors.
  until exec {slot}>"$CACHE/.guest-$turn.lock" && flock -n "$slot"; do
    exec {slot}>&-
    turn=$((turn + 1))
  done
  # Whatever becomes of this shell, the guest ends with it. The console ends each line with a carriage return too.
  setpriv --pdeathsig KILL taskset -c "$(one_processor "$turn")" unshare --mount --propagation private --pid --net --fork --kill-child \
    "$PARTS/guest-boot" "$KERNEL" "$memory" "$PARTS/kernel-init" "$work/env" </dev/null 2>&1 |
    tr -d '\r' | tee "$work/log" | grep --line-buffered -v -e '^lab: exit code ' -e '^Failed to initialize ubd' -e '^reboot: ' || true
  status=$(sed -n 's/^lab: exit code //p' "$work/log" | tail -n 1)
  [ -n "$status" ] || die "the guest has ended before the command did"
  return "$status"
}

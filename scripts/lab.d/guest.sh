# shellcheck shell=bash
# The guest node: Linux as a program, its root file system the machine's own, read-only.

GUEST_STATE=/run/lab
GUEST_PORT=7070

# In megabytes: 3 GiB, or half of what a small machine has free.
guest_memory() {
  awk '$1 == "MemAvailable:" { half = int($2 / 2048); print half < 3072 ? half : 3072 }' /proc/meminfo
}

start_guest() {
  network_guest
  node_config guest "$GUEST_PODS" "$GUEST4" "$GUEST_STATE" false
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
BRIDGE="10.244.$GUEST_PODS.1/24 fd00:10:244:$GUEST_PODS::1/64"
EOT
  local memory
  memory=$(guest_memory)
  [ "$memory" -ge 1024 ] || warn "only $memory MiB for the guest: it may be too little"
  # A pid namespace of its own: whatever way this ends, no part of the guest outlives it.
  start guest unshare --mount --propagation private --pid --fork --kill-child \
    "$PARTS/guest-boot" "$KERNEL" "$memory" "$PARTS/guest-init" "$RUN/node/guest/env"
}

guest_run() { inside "$NODETOOL" run "$GUEST4:$GUEST_PORT" "$RUN/token" "$@"; }

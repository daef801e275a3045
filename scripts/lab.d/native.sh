# shellcheck shell=bash
# The native node: a kubelet on the machine's own kernel, in the lab's network namespace.

# Not below /run: images would fill what may be memory.
NATIVE_STATE=/var/lib/pod-chaos-lab

native_ctr() { ctr --address "$NATIVE_STATE/containerd.sock" -n k8s.io "$@"; }

start_native() {
  local image restrict=false
  # Without CAP_SYS_RESOURCE nobody may lower an oom_score_adj.
  (echo -999 >/proc/self/oom_score_adj) 2>/dev/null || restrict=true
  network_native
  mkdir -p "$NATIVE_STATE/static-pods"
  node_config native "$NATIVE_PODS" "$LAB4" "$NATIVE_STATE" runc "$restrict"
  start containerd containerd --config "$RUN/node/native/containerd.toml"
  wait_for 30 "containerd answers" containerd native_ctr version
  for image in "${IMAGE_FILES[@]}"; do native_ctr image import "$image" >/dev/null; done
  # shellcheck disable=SC2046 # a command line without quoting
  start kubelet $(kubelet_command native "$LAB4,$LAB6" "$NATIVE_STATE")
  # shellcheck disable=SC2046
  start proxy $(proxy_command native)
}

# Ends the pods first: their shims would outlive containerd.
stop_native() {
  local task container shim point namespaces
  stop kubelet
  stop proxy
  mapfile -t namespaces < <(pod_namespaces)
  if running containerd; then
    for task in $(native_ctr tasks ls -q); do native_ctr tasks kill -s KILL "$task" || true; done
    for task in $(native_ctr tasks ls -q); do native_ctr tasks rm -f "$task" || true; done
    for container in $(native_ctr containers ls -q); do native_ctr containers rm "$container" || true; done
  fi >/dev/null 2>&1
  # The shims that name our containerd as theirs.
  for shim in $(pgrep -f "^[^ ]*containerd-shim-runc-v2 .*-address $NATIVE_STATE/containerd.sock" || true); do
    kill "$shim" 2>/dev/null || true
  done
  stop containerd
  awk -v dir="$NATIVE_STATE/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r point; do umount "$point" || umount -l "$point"; done
  for point in "${namespaces[@]}"; do
    [ ! -e "/run/netns/$point" ] || ip netns del "$point"
  done
  # The kubelet's control groups. One that somebody else uses is not empty, and stays.
  for point in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [ ! -d "$point" ] || find "$point" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  rm -rf "$NATIVE_STATE"
}

# Network namespaces of the pods that run: containerd makes them among the machine's named ones.
pod_namespaces() {
  cat "$NATIVE_STATE"/containerd-state/io.containerd.runtime.v2.task/k8s.io/*/config.json 2>/dev/null |
    grep -o '/run/netns/cni-[^"]*' | sed 's#.*/##' | sort -u
}

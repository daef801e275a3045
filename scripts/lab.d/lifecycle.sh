# shellcheck shell=bash
# up, down, status, images.

RUN=/run/pod-chaos-lab

need_root() { [ "$(id -u)" = 0 ] || die "the lab needs root" "sudo scripts/lab …"; }

# One `up`, `down` or `images` at a time.
lock() {
  exec {LOCK}>"$RUN.lock"
  flock --nonblock "$LOCK" || {
    say "waiting for another scripts/lab to finish"
    flock "$LOCK"
  }
}

lab_up() {
  local node asked wanted=guest missing=()
  KUBERNETES_VERSION=1.34 KERNEL_VERSION=6.12 NODES=
  while [ $# -gt 0 ]; do
    case $1 in
      --kubernetes) KUBERNETES_VERSION=${2:?--kubernetes needs a version} ;;
      --kernel) KERNEL_VERSION=${2:?--kernel needs a version} ;;
      --nodes) wanted=${2:?--nodes needs names} ;;
      *) die "unknown option $1" "scripts/lab help" ;;
    esac
    shift 2
  done
  wanted=${wanted//,/ }
  for node in $wanted; do
    case $node in guest | native) ;; *) die "there is no node $node" "use guest, native or guest,native" ;; esac
  done
  kubernetes_release "$KUBERNETES_VERSION" >/dev/null
  kernel_suite "$KERNEL_VERSION" >/dev/null
  asked="Kubernetes $KUBERNETES_VERSION, kernel $KERNEL_VERSION"

  need_root
  # Else it goes on when what it has just started takes the signal for itself.
  trap 'echo >&2; die "interrupted" "the same again goes on from here, scripts/lab down ends what runs"' INT TERM
  lock
  if [ -e "$RUN/up" ] && all_running; then
    [ "$(<"$RUN/up")" = "$asked" ] || die "the lab is up with $(<"$RUN/up")" "scripts/lab down, first"
    # shellcheck source=/dev/null
    source "$RUN/env"
  elif [ -d "$RUN" ]; then
    say "clearing what an earlier lab left"
    take_down
    # It has just read which nodes that one had.
    NODES=
  fi
  for node in $wanted; do
    case " $NODES " in *" $node "*) ;; *) missing+=("$node") ;; esac
  done
  if [ ${#missing[@]} = 0 ]; then
    say "the lab is already up: $asked, nodes: $NODES"
    return
  fi

  build_all "${missing[@]}"
  # From here on it is the start that is timed.
  STEP_START=${EPOCHREALTIME/[.,]/}
  [ -e "$RUN/up" ] || start_control_plane "${missing[@]}"
  for node in "${missing[@]}"; do "join_$node"; done
  if [ ! -e "$RUN/up" ]; then
    wait_for 30 "default service account" controller-manager kube get serviceaccount default
    echo "$asked" >"$RUN/up"
  fi
  say "the lab is up: $asked, nodes: $NODES"
}

# build_all NODE...
build_all() {
  need_packages "${LAB_PACKAGES[@]}"
  need_kubernetes "$KUBERNETES_VERSION"
  need_coredns
  need_nodetool
  case " $* " in *' guest '*) need_kernel "$KERNEL_VERSION" ;; esac
  need_all_images
}

# What the other commands need to know.
write_env() { printf '%s=%q\n' KUBERNETES "$KUBERNETES" NODETOOL "$NODETOOL" NODES "$NODES" >"$RUN/env"; }

# start_control_plane NODE...: a guest among the nodes boots at the same time.
start_control_plane() {
  mkdir -m 700 "$RUN"
  mkdir -p "$RUN"/{pid,log,node}
  (umask 077 && head -c 32 /dev/urandom | base64 >"$RUN/token")
  write_env
  network_up
  start_etcd
  pki_up
  start_apiserver
  case " $* " in *' guest '*) start_guest ;; esac
  start_coredns
  wait_for 120 "the API server answers" apiserver kube get --raw /readyz
  touch "$RUN/api-ready"
  apply_dns >/dev/null
  start_controllers
  wait_for 30 "CoreDNS answers" coredns inside busybox wget -qO /dev/null http://127.0.0.1:8181/ready
}

join_guest() {
  running guest || start_guest
  NODES="${NODES:+$NODES }guest"
  write_env
  wait_for 120 "node guest is ready" guest node_is_ready guest
  touch "$RUN/node/guest/ready"
  wait_for 30 "guest reaches services" guest \
    guest_run busybox nslookup kubernetes.default.svc.cluster.local "$DNS4"
  wait_for 120 "images loaded on guest" guest guest_run test -e "$GUEST_STATE/images-loaded"
  mark_loaded guest "${IMAGE_FILES[@]}"
}

join_native() {
  start_native
  NODES="${NODES:+$NODES }native"
  write_env
  wait_for 120 "node native is ready" kubelet node_is_ready native
  wait_for 30 "native reaches services" proxy \
    inside busybox nslookup kubernetes.default.svc.cluster.local "$DNS4"
  mark_loaded native "${IMAGE_FILES[@]}"
}

kube() { inside "$KUBERNETES/kubectl" --kubeconfig="$RUN/admin.kubeconfig" "$@"; }

node_is_ready() {
  [ "$(kube get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

all_running() {
  local name
  for name in "$RUN"/pid/*; do running "${name##*/}" || return 1; done
}

lab_down() {
  need_root
  lock
  [ -d "$RUN" ] || { say "the lab is not up"; return; }
  take_down
  say "the lab is down"
}

take_down() {
  local name
  # Nothing of these is kept, so they need not take their leave.
  stop guest 0
  # shellcheck source=/dev/null
  [ ! -e "$RUN/env" ] || source "$RUN/env"
  [ ! -d "$NATIVE_STATE" ] || stop_native
  for name in coredns scheduler controller-manager apiserver etcd; do stop "$name" 0; done
  network_down
  rm -rf "$RUN"
}

lab_status() {
  local name ok=yes node
  [ -d "$RUN" ] || { echo "the lab is not up"; exit 3; }
  if [ -e "$RUN/up" ]; then echo "the lab is up: $(<"$RUN/up")"; else echo "the lab is starting, or was interrupted"; ok=no; fi
  for name in "$RUN"/pid/*; do
    name=${name##*/}
    if running "$name"; then echo "$name: runs"; else echo "$name: has ended (scripts/lab logs $name)"; ok=no; fi
  done
  # shellcheck source=/dev/null
  [ ! -e "$RUN/env" ] || source "$RUN/env"
  for node in ${NODES:-}; do
    if node_is_ready "$node" 2>/dev/null; then echo "node $node: ready"; else echo "node $node: not ready"; ok=no; fi
  done
  [ "$ok" = yes ] || exit 3
}

# Sets IMAGE_FILES. The pause image comes first: no pod starts without it.
need_all_images() {
  local name
  IMAGE_FILES=()
  for name in pause shell nginx ab tools; do
    need_image "$name"
    IMAGE_FILES+=("$IMAGE")
  done
  # The lab is of use without the agent, and the agent's sources may be in the middle of a change.
  if IMAGE=$(need_agent_image "$(machine_architecture)" && echo "$IMAGE"); then
    IMAGE_FILES+=("$IMAGE")
  else
    warn "the lab starts without the agent's image: run scripts/lab images when it can be built"
  fi
}

# Loading an image that is there already takes a second, so what a node has is remembered. The name of
# an image's folder tells its contents.
loaded_mark() { echo "$RUN/node/$1/loaded-$(basename "$(dirname "$2")")"; }

mark_loaded() {
  local node=$1 image
  shift
  for image in "$@"; do touch "$(loaded_mark "$node" "$image")"; done
}

lab_images() {
  local image node
  need_up
  need_root
  lock
  need_all_images
  for node in $NODES; do
    for image in "${IMAGE_FILES[@]}"; do
      [ ! -e "$(loaded_mark "$node" "$image")" ] || continue
      say "loading $(basename "$(dirname "$image")") into $node"
      case $node in
        guest) guest_run ctr --address "$GUEST_STATE/containerd.sock" -n k8s.io image import "$image" >/dev/null ;;
        native) native_ctr image import "$image" >/dev/null ;;
      esac || die "loading $image into $node" "scripts/lab logs"
      mark_loaded "$node" "$image"
    done
  done
}

# shellcheck shell=bash
# Using a lab that is up: run, kubectl, node, pod, pid, logs. Tests call these often, so each is one exec.

need_up() {
  [ -e "$RUN/env" ] || die "the lab is not up" "scripts/lab up"
  # shellcheck source=/dev/null
  source "$RUN/env"
}

lab_run() {
  [ "${1:-}" != -- ] || shift
  [ $# -gt 0 ] || die "run what?" "scripts/lab run -- COMMAND…"
  need_up
  local target=${CARGO_TARGET_DIR:-$REPO/target}
  export KUBECONFIG=$RUN/admin.kubeconfig POD_CHAOS_LAB=$RUN
  export PATH=$target/release:$target/debug:$KUBERNETES:$PATH
  exec nsenter --net="/run/netns/$NETNS" "$@"
}

lab_kubectl() { lab_run -- kubectl "$@"; }

# node_exec NODE COMMAND...
node_exec() {
  local node=$1
  shift
  case " $NODES " in *" $node "*) ;; *) die "node $node is not up" "it was started with: $NODES" ;; esac
  case $node in
    guest) exec nsenter --net="/run/netns/$NETNS" "$NODETOOL" run "$GUEST4:$GUEST_PORT" "$RUN/token" "$@" ;;
    native) exec nsenter --net="/run/netns/$NETNS" "$@" ;;
  esac
}

lab_node() {
  local node=${1:-}
  [ $# -eq 0 ] || shift
  [ "${1:-}" != -- ] || shift
  [ $# -gt 0 ] || die "which command on which node?" "scripts/lab node guest -- COMMAND…"
  need_up
  node_exec "$node" "$@"
}

tasks_of() {
  case $1 in
    guest) TASKS=$GUEST_STATE ;;
    native) TASKS=$NATIVE_STATE ;;
  esac
  TASKS=$TASKS/containerd-state/io.containerd.runtime.v2.task/k8s.io
}

# on_its_node VERB POD ARGUMENT...: on the guest, unless the native node is up and has the pod. Looking
# there costs a few milliseconds, asking the API server fifty.
on_its_node() {
  local verb=$1 pod=$2 node=${NODES%% *}
  shift 2
  case $pod in */*) ;; *) die "pod $pod" "write NAMESPACE/NAME" ;; esac
  case " $NODES " in
    *' guest native '* | *' native guest '*)
      node=guest
      tasks_of native
      ! "$NODETOOL" pid "$TASKS" "$pod" >/dev/null 2>&1 || node=native
      ;;
  esac
  tasks_of "$node"
  node_exec "$node" "$NODETOOL" "$verb" "$TASKS" "$pod" "$@"
}

lab_pod() {
  local pod=${1:-}
  [ $# -eq 0 ] || shift
  [ "${1:-}" != -- ] || shift
  [ $# -gt 0 ] || die "which command in which pod?" "scripts/lab pod NAMESPACE/NAME -- COMMAND…"
  need_up
  on_its_node pod "$pod" "$@"
}

lab_pid() {
  [ $# -eq 1 ] || [ $# -eq 2 ] || die "which container of which pod?" "scripts/lab pid NAMESPACE/POD [CONTAINER]"
  need_up
  on_its_node pid "$@"
}

# The guest's own logs are on the guest.
lab_logs() {
  need_up
  case ${1:-} in
    '')
      ls "$RUN/log"
      case $NODES in *guest*) printf 'guest/%s\n' containerd kubelet proxy nodetool ;; esac
      ;;
    guest/*) node_exec guest cat "$GUEST_STATE/log/${1#guest/}" ;;
    *)
      [ -f "$RUN/log/$1" ] || die "there is no log $1" "scripts/lab logs names them"
      cat "$RUN/log/$1"
      ;;
  esac
}

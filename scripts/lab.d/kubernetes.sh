# shellcheck shell=bash
# Kubernetes from its Go modules: five servers and kubectl.

# Patch releases of which every staging module is on the module proxy; that is not so of all.
kubernetes_release() {
  case $1 in
    1.30) echo 1.30.14 ;;
    1.34) echo 1.34.4 ;;
    1.36) echo 1.36.3 ;;
    *) die "Kubernetes $1 is not one the lab knows" "use 1.30, 1.34 or 1.36" ;;
  esac
}

# A staging module of which the checksum database does not know the release's version, and the version to
# take in its stead. This one holds the types of a configuration file, the same for all of 1.30.
kubernetes_exception() {
  case $1 in 1.30.14) echo 'k8s.io/kube-proxy v0.30.0' ;; esac
}

# build_kubernetes RELEASE [MODULE VERSION]
build_kubernetes() {
  local release=$1 minor=${1#1.} exception=${2:-} exception_version=${3:-} mod
  mkdir src
  pushd src
  printf 'module lab\n\ngo 1.21\n' >go.mod
  mod=$(go list -m -f '{{.GoMod}}' "k8s.io/kubernetes@v$release")
  # Inside its own repository the module takes its staging modules from folders next to it. Outside
  # they are the ones published as v0.x. Everything else is exactly what the release was tested with.
  {
    printf 'module lab\n\ngo %s\n\n' "$(awk '$1 == "go" { print $2 }' "$mod")"
    grep '^godebug ' "$mod" || true
    printf '\ntool (\n'
    printf '\tk8s.io/kubernetes/cmd/%s\n' \
      kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl
    printf ')\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$release"
    awk -v v="v0.$minor" -v module="$exception" -v other="$exception_version" \
      '/=> \.\/staging\// { print "\t" $1 " => " $1 " " ($1 == module ? other : v) }' "$mod"
    printf ')\n'
  } >go.mod.new
  mv go.mod.new go.mod
  go mod tidy
  local version=k8s.io/component-base/version
  local flags="-s -w -X $version.gitVersion=v$release -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}"
  flags="$flags -X k8s.io/client-go/pkg/version.gitVersion=v$release -X $version.gitTreeState=clean"
  CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o .. tool
  popd
  rm -r src
}

# Sets KUBERNETES to the folder with the servers and kubectl.
need_kubernetes() {
  local release exception
  release=$(kubernetes_release "$1")
  exception=$(kubernetes_exception "$release")
  need_go
  # shellcheck disable=SC2086 # two words
  cached "kubernetes-$release" "$exception" build_kubernetes "$release" $exception
  KUBERNETES=$CACHED
}

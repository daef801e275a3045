# shellcheck shell=bash
# The small programs: CoreDNS, and the lab's own hand on a node.

COREDNS_VERSION=1.12.4

build_coredns() {
  mkdir src
  pushd src
  cp "$1/main.go" .
  printf 'module coredns\n\ngo 1.24\n\nrequire github.com/coredns/coredns v%s\n' "$2" >go.mod
  go mod tidy
  CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../coredns .
  popd
  rm -r src
}

# Sets COREDNS to the program.
need_coredns() {
  need_go
  cached "coredns-$COREDNS_VERSION" "$(cat "$PARTS/coredns/main.go")" \
    build_coredns "$PARTS/coredns" "$COREDNS_VERSION"
  COREDNS=$CACHED/coredns
}

build_nodetool() {
  local out=$PWD
  cd "$1"
  GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$out/nodetool" .
}

# Sets NODETOOL to the program.
need_nodetool() {
  need_go
  cached nodetool "$(cat "$PARTS"/nodetool/*.go)" build_nodetool "$PARTS/nodetool"
  NODETOOL=$CACHED/nodetool
}

# shellcheck shell=bash
# A Go toolchain, whatever the machine has.

# From 1.21 on, a toolchain fetches the newer one that a module asks for from the module proxy, and
# checks it against the checksum database.
GO_BOOTSTRAP=1.26.0

build_go() {
  local module dir
  # The proxy serves whole toolchains as modules. Any Go can download one and checks it, as any module.
  printf 'module lab\n' >go.mod
  module=golang.org/toolchain@v0.0.1-go$1.$2
  go mod download "$module"
  dir=$(go env GOMODCACHE)/$module
  cp -r "$dir" go
  chmod -R u+w go
  # A module cannot hold modules or programs: this is what the go command does with it.
  find go/src -name _go.mod -execdir mv {} go.mod \;
  chmod -R a+x go/bin go/pkg/tool
  rm go.mod
}

need_go() {
  local version platform
  export GOTOOLCHAIN=auto GOFLAGS=-mod=mod
  command -v go >/dev/null || need_packages golang-go ca-certificates
  version=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  # Empty for a development version, which is newer than all of these.
  [ "${version:-99}" -lt 21 ] || return 0
  platform=linux-$(go env GOARCH)
  cached "go-$GO_BOOTSTRAP" '' build_go "$GO_BOOTSTRAP" "$platform"
  export PATH=$CACHED/go/bin:$PATH
}

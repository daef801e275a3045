# Sourced by `platforms` and `release`: cargo-zigbuild, and what Apple's linker would find on a Mac.
# shellcheck shell=bash

# Puts cargo-zigbuild and zig on the PATH: from PyPI, kept in the cache.
need_zig() {
  local tools
  tools=$(dirname "$CACHE")/zigbuild
  if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
    python3 -c 'import ensurepip' 2>/dev/null || need_packages python3-venv
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet cargo-zigbuild==0.24.0 ziglang==0.17.0
  fi
  export PATH=$tools/bin:$PATH
}

# apple_framework FOLDER NAME SYMBOL...: a text stub of a framework, all that a linker needs of one.
apple_framework() {
  local folder=$1/$2.framework name=$2 symbols
  shift 2
  symbols=$(printf ', _%s' "$@")
  mkdir -p "$folder"
  cat >"$folder/$name.tbd" <<EOT
--- !tapi-tbd
tbd-version: 4
targets: [ x86_64-macos, arm64-macos ]
install-name: '/System/Library/Frameworks/$name.framework/Versions/A/$name'
exports:
  - targets: [ x86_64-macos, arm64-macos ]
    symbols: [ ${symbols#, } ]
...
EOT
}

# Sourced by the other scripts: cargo, a C compiler to link with, and the targets of the agent.
# shellcheck shell=bash

# shellcheck source=scripts/lab.d/common.sh
. scripts/lab.d/common.sh
# shellcheck source=scripts/lab.d/packages.sh
. scripts/lab.d/packages.sh

if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH=$HOME/.cargo/bin:$PATH
fi
if ! command -v cargo >/dev/null; then
  # Debian has rustup since 13.
  { need_packages rustup && rustup default stable >&2; } ||
    die "no cargo on the PATH, and this Debian has no rustup" "install Rust with rustup first"
fi
need_packages gcc libc6-dev
if command -v rustup >/dev/null; then
  rustup --quiet target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl
fi

# Sourced by the other scripts: cargo, a C compiler to link with, and the targets of the agent.
# shellcheck shell=bash

if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH=$HOME/.cargo/bin:$PATH
fi
if ! command -v cargo >/dev/null; then
  # Debian has rustup since 13.
  if ! { apt-get install -qy rustup && rustup default stable; } >&2; then
    echo "error: no cargo on the PATH, and this Debian has no rustup; install Rust with rustup first" >&2
    exit 1
  fi
fi
command -v cc >/dev/null || { apt-get update -q && apt-get install -qy gcc libc6-dev; } >&2
if command -v rustup >/dev/null; then
  rustup --quiet target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl
fi

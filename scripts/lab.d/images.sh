# shellcheck shell=bash
# Builds the images that are not in the cache.

source "$PARTS/image-recipes.sh"

machine_architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) die "machines of type $(uname -m) are not supported" ;;
  esac
}

# Sets IMAGE to the file.
need_image() {
  local name=$1 stage='' inputs
  if [ "$name" != pause ]; then
    # shellcheck source=/dev/null
    cached image-packages "${STAGE_PACKAGES[*]} $(. /etc/os-release && echo "$ID $VERSION_ID")" \
      build_stage "${STAGE_PACKAGES[@]}"
    stage=$CACHED/root
  fi
  inputs=$stage$(cat "$PARTS/image.sh")
  [ "$name" != tools ] || inputs=$inputs$(cat "$REPO/tools-image/recipe.sh")
  cached "image-$name" "$inputs" "build_$name" "$(machine_architecture)" "$stage" "$REPO/tools-image"
  IMAGE=$CACHED/image.tar
}

agent_image_name() {
  local version
  version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' "$REPO/Cargo.toml")
  echo "localhost/pod-chaos-agent:v$version"
}

# Builds the agent with cargo, each time: cargo knows best whether something changed.
need_agent_image() {
  local architecture=$1 target binary name
  case $architecture in
    amd64) target=x86_64-unknown-linux-musl ;;
    arm64) target=aarch64-unknown-linux-musl ;;
    *) die "architecture $architecture" "use amd64 or arm64" ;;
  esac
  need_rust "$target"
  binary=${CARGO_TARGET_DIR:-$REPO/target}/$target/agent/pod-chaos-agent
  (cd "$REPO" && cargo build --quiet --locked -p pod-chaos-agent --profile agent --target "$target") >&2 ||
    die "building the agent for $target"
  name=$(agent_image_name)
  cached "image-agent-$architecture" "$name $(sha256sum <"$binary") $(cat "$PARTS/image.sh")" \
    build_agent "$architecture" "$binary" "$name"
  IMAGE=$CACHED/image.tar
}

need_rust() {
  local target=$1 installed
  command -v cargo >/dev/null ||
    die "no cargo on this machine" "install Rust with rustup (https://rustup.rs; Debian 13: apt install rustup), then: rustup target add $target"
  installed=$(rustc --print target-libdir --target "$target")
  [ ! -d "$installed" ] || return 0
  command -v rustup >/dev/null ||
    die "this machine's Rust cannot build for $target" "install Rust with rustup (https://rustup.rs), then: rustup target add $target"
  say "adding the Rust target $target"
  rustup target add "$target" >&2 || die "adding the Rust target $target"
}

# shellcheck shell=bash
# The guest's kernel: Linux as an ordinary program (User Mode Linux), from Debian's kernel source.

# kernel_suite VERSION: the Debian release that has this kernel's source.
kernel_suite() {
  case $1 in
    6.1) echo bookworm ;;
    6.12) echo trixie ;;
    *) die "kernel $1 is not one the lab knows" "use 6.12 or 6.1" ;;
  esac
}

build_kernel() {
  local version=$1 mirror=$2 suite=$3 config=$4 apt wish
  # A package list of its own: the machine's releases and lists stay as they are.
  mkdir -p apt/lists/partial apt/cache/archives/partial apt/state
  : >apt/status
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >apt/sources.list
  apt=(apt-get -o Dir::Etc::sourcelist="$PWD/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State="$PWD/apt/state" -o Dir::State::lists="$PWD/apt/lists"
    -o Dir::State::status="$PWD/apt/status" -o Dir::Cache="$PWD/apt/cache"
    -o APT::Sandbox::User=root)
  "${apt[@]}" update
  "${apt[@]}" download "linux-source-$version"
  dpkg-deb --fsys-tarfile "linux-source-$version"_*.deb |
    tar -xO --wildcards "*/linux-source-$version.tar.xz" | tar -xJ
  pushd "linux-source-$version"
  # This architecture has no choice of HZ; nftables' timeouts end on a tick.
  sed -i '/^config HZ$/,/default/s/default 100$/default 1000/' arch/um/Kconfig
  # Looking for duplicates of an IPv6 address makes every pod's start a second or two longer.
  sed -i '/ ipv6_devconf_dflt /,/^};/s/\(\.accept_dad\s*= \)1/\10/' net/ipv6/addrconf.c
  export ARCH=um
  make defconfig
  echo "$config" >../wishes
  ./scripts/kconfig/merge_config.sh -m .config ../wishes
  make olddefconfig
  for wish in CONFIG_HZ=1000 CONFIG_HIGH_RES_TIMERS=y CONFIG_NET_SCH_NETEM=y CONFIG_NETFILTER_EGRESS=y; do
    grep -qx "$wish" .config || { echo "the configuration lacks $wish" >&2; return 1; }
  done
  make -j"$(nproc)" linux
  strip -o ../linux linux
  cp .config ../config
  popd
  rm -rf apt "linux-source-$version" wishes ./*.deb
}

# The mirror that this machine's own package sources name.
debian_mirror() {
  # shellcheck disable=SC2016 # apt fills these in
  apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
    awk -F'|' '$1 == "Debian" { print $2; exit }'
}

# kernel_config VERSION: what its configuration has beyond the User Mode Linux default.
kernel_config() {
  cat "$PARTS/kernel.config"
  # Before 6.11 this architecture maps what vmalloc gives at the first fault. Where a signal comes in it reads the
  # stack of the process it interrupts (to_irq_stack): if that faults, it is a signal again, and so for ever.
  [ "$1" != 6.1 ] || echo CONFIG_VMAP_STACK=n
}

# Sets KERNEL to the kernel program.
need_kernel() {
  local version=$1 suite mirror config
  suite=$(kernel_suite "$version")
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || die "found no Debian mirror in this machine's package sources" "run apt-get update first"
  config=$(kernel_config "$version")
  cached "kernel-$version" "$config" build_kernel "$version" "$mirror" "$suite" "$config"
  KERNEL=$CACHED/linux
}

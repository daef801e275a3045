# shellcheck shell=bash
# Debian packages the lab needs on the machine.

LAB_PACKAGES=(
  # to build the kernel and the pause program
  build-essential flex bison bc xz-utils
  # to run the nodes
  etcd-server containerd runc crun containernetworking-plugins
  iproute2 nftables iptables openssl busybox-static procps util-linux
  # to look at them
  iputils-ping curl
)

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# Some of these packages bring a service that Debian starts at once and at each boot.
need_packages() {
  local missing guard=/usr/sbin/policy-rc.d guarded=no service
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "this machine has no apt-get" "the lab needs Debian 12 or 13"
  say "installing ${missing[*]}"
  if [ ! -e "$guard" ]; then
    guarded=yes
    # shellcheck disable=SC2064 # now, while the name is known
    trap "rm -f $guard" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$guard"
    chmod +x "$guard"
  fi
  local log=$CACHE/packages.log
  mkdir -p "$CACHE"
  if ! { apt_get update && apt_get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 10 "$log" >&2
    die "installing ${missing[*]}" "the whole log is $log"
  fi
  if [ "$guarded" = yes ]; then
    rm -f "$guard"
    trap - EXIT
  fi
  if [ -d /run/systemd/system ]; then
    for service in etcd containerd; do
      case " ${missing[*]} " in
        *" $service"*) systemctl disable --quiet --now "$service" 2>/dev/null || true ;;
      esac
    done
  fi
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }

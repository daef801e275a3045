# shellcheck shell=bash
# What is in the tools image. Sourced by scripts/images, with scripts/lab.d/image.sh in place.

# tools_root STAGE ROOT: STAGE holds unpacked Debian packages.
tools_root() {
  local stage=$1 root=$2 name
  base "$root"
  # tcpdump gives up root for this user.
  echo 'tcpdump:x:100:65534::/:/bin/false' >>"$root/etc/passwd"
  busybox "$stage" "$root"
  # Busybox's shell prefers its own ip, nc and ping to what PATH names, so the shell here is dash.
  for name in sh ip nc ping tc; do rm -f "$root/bin/$name"; done
  take "$stage" "$root" \
    /bin/dash /usr/bin/ab /usr/bin/curl /usr/bin/dig /usr/bin/iperf3 /bin/nc.openbsd /bin/ping \
    /usr/bin/tcpdump /usr/bin/strace /bin/ip /bin/ss /sbin/tc /usr/sbin/nft /usr/sbin/xtables-nft-multi \
    '/usr/lib/*-linux-gnu/xtables/lib*.so' '/usr/lib/*-linux-gnu/tc/*.dist'
  ln -s dash "$root/bin/sh"
  ln -s nc.openbsd "$root/bin/nc"
  for name in iptables ip6tables iptables-save ip6tables-save; do
    ln -s xtables-nft-multi "$root/usr/sbin/$name"
  done
  stub_icu "$root"
}

# dig's libraries link an XML parser, and that one 31 MB of tables about writing systems, which dig never
# looks at. They are half of the image, so an empty one stands in.
stub_icu() {
  local file name
  for file in "$1"/lib/*/libicudata.so.*; do
    [ -e "$file" ] || continue
    name=$(basename "$file")
    echo "const long icudt${name##*.}_dat[8] = {0};" |
      gcc -shared -s -nostdlib -Wl,--build-id=none -Wl,-soname,"$name" -x c -o "$file" -
  done
}

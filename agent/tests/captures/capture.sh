#!/bin/bash
# capture.sh   Writes down what ip, tc and nft send to the kernel, one file per command.
# Needs root, strace, iproute2 and nftables; runs in a network namespace of its own. The kernel may refuse
# a request (it may lack netem): it has been sent by then. Made with iproute2 6.1.0 and nftables 1.0.6.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${IN_NETNS:-}" ]; then IN_NETNS=1 exec unshare --net "./${0##*/}"; fi

# capture FILE COMMAND...: the last message that the command sends.
capture() {
  local file=$1 trace
  shift
  trace=$(mktemp)
  strace -e trace=sendmsg -e write=all -o "$trace" "$@" 2>/dev/null || true
  {
    printf "%s\n" "$*" | sed "s/^/# /; s/ *$//"
    awk '/^sendmsg/ { dump = "" } /^ \| / { dump = dump substr($0, 11, 49) "\n" } END { printf "%s", dump }' \
      "$trace" | sed 's/  */ /g; s/ *$//'
  } >"$file"
  rm "$trace"
}

ip link add eth0 type veth peer name peer
ip link set eth0 up
LINK=pc-0badcafe
capture link-create.txt ip link add name $LINK address 72:63:0b:ad:ca:fe mtu 1500 arp off multicast off \
  type veth peer name ${LINK}x mtu 1500 arp off multicast off
ip link show $LINK >/dev/null
capture link-alias.txt ip link set $LINK alias "pod-chaos 0badcafe"
capture link-no-addresses.txt ip link set $LINK addrgenmode none
capture link-up.txt ip link set $LINK up
capture qdisc-tbf.txt tc qdisc add dev $LINK root handle 7063: tbf rate 30gbit burst 2000 limit 2000
capture qdisc-netem.txt tc qdisc add dev $LINK parent 7063:1 handle 7064: netem limit 110000 delay 100ms 10ms
# netem FILE WORDS...: netem alone, on the same link; a distribution is looked up in this folder.
netem() {
  local file=$1
  shift
  capture "netem-$file.txt" env TC_LIB_DIR=. tc qdisc add dev $LINK parent 7063:1 handle 7064: netem "$@"
}
netem jitter limit 1000 delay 100ms 10ms 25%
netem table limit 1000 delay 100ms 10ms distribution steps
netem loss limit 1000 loss random 1% 25%
netem state limit 1000 loss state 10% 50% 25% 75% 1%
netem state-defaults limit 1000 loss state 10%
netem gemodel limit 1000 loss gemodel 1% 10% 70% 0.1% ecn
netem gemodel-defaults limit 1000 loss gemodel 1%
netem duplicate limit 1000 duplicate 1%
netem correlations limit 1000 delay 100ms 10ms 5% loss random 1% 25% duplicate 2% 10%
netem corrupt limit 1000 corrupt 0.1% 25%
netem reorder limit 1000 delay 10ms reorder 25% 50% gap 5
netem reorder-any limit 1000 delay 10ms reorder 25%
netem rate limit 1000 rate 1mbit 20 48 5
netem rate-negative limit 1000 rate 1500kbps -14 53 -5
netem rate-64 limit 1000 rate 100gbit
netem slot limit 1000 slot 800us 1ms packets 20 bytes 6000
netem slot-fixed limit 1000 slot 800us
netem slot-table limit 1000 slot distribution steps 1ms 100us packets 2
netem all limit 1000 delay 100ms 10ms 25% distribution steps loss gemodel 1% 10% ecn \
  duplicate 1% corrupt 0.1% reorder 25% rate 1mbit slot 800us 1ms
tc qdisc del dev $LINK root
capture qdisc-prio.txt tc qdisc add dev $LINK root handle 7062: prio bands 4 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1
capture qdisc-pfifo.txt tc qdisc add dev $LINK parent 7062:1 pfifo limit 1000
capture qdisc-delete.txt tc qdisc del dev $LINK root handle 7062:
capture qdisc-clsact.txt tc qdisc add dev $LINK clsact
capture filter-mirred.txt tc filter add dev $LINK egress protocol all prio 1 u32 match u32 0 0 \
  action mirred ingress redirect dev eth0
capture table.txt nft "
  table netdev pod-chaos-0badcafe {
    comment \"v1 netem eth0 from 1000 to 6000\"
    set live {
      type ether_type
      flags timeout
      elements = { ip timeout 5s, ip6 timeout 5s }
    }
    chain hit-egress {
      counter fwd to \"$LINK\";
    }
    chain aimed-egress {
      meta l4proto 58 @th,0,8 133-137 accept
      meta protocol != @live accept
      goto hit-egress
    }
    chain egress {
      type filter hook egress device \"eth0\" priority 0; policy accept;
      meta priority 8bad:cafe meta priority set none accept
      goto aimed-egress
    }
    chain exit {
      type filter hook ingress device \"${LINK}x\" priority 0; policy accept;
      @ll,48,48 != 0x72630badcafe meta priority set 8bad:cafe fwd to \"eth0\"
    }
  }"
nft delete table netdev pod-chaos-0badcafe
capture link-create-ifb.txt ip link add name ${LINK}i mtu 1500 arp off multicast off type ifb
capture table-partition.txt nft "
  table netdev pod-chaos-0badcafe {
    comment \"v1 partition eth0 from 1000 to 6000\"
    set live {
      type ether_type
      flags timeout
      elements = { ip timeout 5s, ip6 timeout 5s }
    }
    set except4 {
      type ipv4_addr
      flags interval
      elements = { 10.0.0.9 }
    }
    set except4ports {
      type ipv4_addr . inet_proto . inet_service
      flags interval
      elements = { 0.0.0.0-255.255.255.255 . tcp . 53, 0.0.0.0-255.255.255.255 . udp . 53 }
    }
    set except6ports {
      type ipv6_addr . inet_proto . inet_service
      flags interval
      elements = { ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff . tcp . 53, ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff . udp . 53 }
    }
    set from6 {
      type ipv6_addr
      flags interval
      elements = { fd00::/8 }
    }
    set local {
      type inet_proto . inet_service
      flags interval
      elements = { tcp . 1024-65535 }
    }
    set protocol {
      type inet_proto
      elements = { tcp }
    }
    set remote {
      type inet_proto . inet_service
      flags interval
      elements = { tcp . 80, tcp . 8000-8100 }
    }
    set to4 {
      type ipv4_addr
      flags interval
      elements = { 10.0.0.0/8, 192.168.1.7 }
    }
    set to6ports {
      type ipv6_addr . inet_proto . inet_service
      flags interval
      elements = { fd00::1 . tcp . 80, fd00::1 . udp . 80 }
    }
    chain hit-egress {
      counter fwd to 0;
    }
    chain sample-egress {
      numgen inc mod 3 0 goto hit-egress
    }
    chain aimed-egress {
      meta l4proto 58 @th,0,8 133-137 accept
      meta protocol != @live accept
      ip daddr @except4 accept
      ip daddr . meta l4proto . th dport @except4ports accept
      ip6 daddr . meta l4proto . th dport @except6ports accept
      goto sample-egress
    }
    chain egress {
      type filter hook egress device \"eth0\" priority 0; policy accept;
      ip daddr @to4 meta l4proto @protocol meta l4proto . th dport @remote meta l4proto . th sport @local @th,104,8 & 0x12 == 0x2 goto aimed-egress
      ip6 daddr . meta l4proto . th dport @to6ports meta l4proto @protocol meta l4proto . th dport @remote meta l4proto . th sport @local @th,104,8 & 0x12 == 0x2 goto aimed-egress
    }
    chain hit-ingress {
      counter drop
    }
    chain sample-ingress {
      numgen inc mod 3 0 goto hit-ingress
    }
    chain aimed-ingress {
      meta l4proto 58 @th,0,8 133-137 accept
      meta protocol != @live accept
      ip saddr @except4 accept
      ip saddr . meta l4proto . th sport @except4ports accept
      ip6 saddr . meta l4proto . th sport @except6ports accept
      goto sample-ingress
    }
    chain ingress {
      type filter hook ingress device \"eth0\" priority 0; policy accept;
      ip6 saddr @from6 meta l4proto @protocol meta l4proto . th sport @remote meta l4proto . th dport @local @th,104,8 & 0x12 == 0x2 goto aimed-ingress
    }
  }"
nft delete table netdev pod-chaos-0badcafe
capture table-reject.txt nft "
  table inet pod-chaos-0badcafe {
    comment \"v1 partition eth0 from 1000 to 6000\"
    set live {
      type ether_type
      flags timeout
      elements = { ip timeout 5s, ip6 timeout 5s }
    }
    chain hit-ingress {
      meta l4proto tcp counter reject with tcp reset
      counter reject with icmpx type port-unreachable
    }
    chain sample-ingress {
      meta protocol ip meta l4proto tcp jhash ip saddr . ip daddr . @th,0,16 . @th,16,16 mod 10000 seed 0xbadcafe < 3000 goto hit-ingress
      meta protocol ip meta l4proto udp jhash ip saddr . ip daddr . @th,0,16 . @th,16,16 mod 10000 seed 0xbadcafe < 3000 goto hit-ingress
      meta protocol ip meta l4proto != tcp meta l4proto != udp jhash ip saddr . ip daddr mod 10000 seed 0xbadcafe < 3000 goto hit-ingress
      meta protocol ip6 meta l4proto tcp jhash ip6 saddr . ip6 daddr . @th,0,16 . @th,16,16 mod 10000 seed 0xbadcafe < 3000 goto hit-ingress
      meta protocol ip6 meta l4proto udp jhash ip6 saddr . ip6 daddr . @th,0,16 . @th,16,16 mod 10000 seed 0xbadcafe < 3000 goto hit-ingress
      meta protocol ip6 meta l4proto != tcp meta l4proto != udp jhash ip6 saddr . ip6 daddr mod 10000 seed 0xbadcafe < 3000 goto hit-ingress
    }
    chain aimed-ingress {
      meta l4proto tcp @th,104,8 & 0x4 != 0 accept
      meta l4proto icmp @th,0,8 3 accept
      meta l4proto 58 @th,0,8 1 accept
      meta l4proto 58 @th,0,8 133-137 accept
      meta protocol != @live accept
      goto sample-ingress
    }
    chain ingress {
      type filter hook input priority 0; policy accept;
      iif != eth0 accept
      goto aimed-ingress
    }
  }"
nft delete table inet pod-chaos-0badcafe
capture table-prio.txt nft "
  table inet pod-chaos-0badcafe {
    comment \"v1 prio eth0 from 1000 to 6000\"
    set live {
      type ether_type
      flags timeout
      elements = { ip timeout 5s, ip6 timeout 5s }
    }
    chain hit-egress {
      counter meta priority set 7062:4
    }
    chain aimed-egress {
      meta l4proto 58 @th,0,8 133-137 accept
      meta protocol != @live accept
      goto hit-egress
    }
    chain egress {
      type filter hook postrouting priority 0; policy accept;
      oif != eth0 accept
      goto aimed-egress
    }
  }"
nft delete table inet pod-chaos-0badcafe
nft "add table netdev pod-chaos-0badcafe; add set netdev pod-chaos-0badcafe live { type ether_type; flags timeout; }"
capture set-flush.txt nft flush set netdev pod-chaos-0badcafe live
capture table-delete.txt nft delete table netdev pod-chaos-0badcafe
capture link-delete.txt ip link del $LINK

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
# table FILE FAMILY KIND: the table of a fault, with what stdin says after the set `live`.
table() {
  capture "$1" nft "
  table $2 pod-chaos-0badcafe {
    comment \"v1 $3 eth0 from 1000 to 6000\"
    set live {
      type ether_type
      flags timeout
      elements = { ip timeout 5s, ip6 timeout 5s }
    }
$(cat)
  }"
  nft delete table "$2" pod-chaos-0badcafe
}
# ranges NAME TYPE ELEMENTS: a set that says what is hit.
ranges() {
  cat <<EOT
    set $1 {
      type $2
      flags interval
      elements = { $3 }
    }
EOT
}
# aimed DIRECTION NEXT RULES: the chain for what is aimed at, with these rules about what is spared.
aimed() {
  cat <<EOT
    chain aimed-$1 {
      meta l4proto 58 @th,0,8 133-137 accept
      meta protocol != @live accept
      ${3:-}
      goto $2-$1
    }
EOT
}
# way DIRECTION FATE SIDE REMOTE LOCAL SET...: a way with all conditions, and with these lookups of addresses.
way() {
  local direction=$1 fate=$2 side=$3 remote=$4 local=$5 set
  shift 5
  cat <<EOT
    chain hit-$direction {
      counter $fate;
    }
    chain sample-$direction {
      numgen inc mod 3 0 goto hit-$direction
    }
EOT
  aimed "$direction" sample "ip $side @except4 accept
      ip $side . meta l4proto . th $remote @except4ports accept
      ip6 $side . meta l4proto . th $remote @except6ports accept"
  cat <<EOT
    chain $direction {
      type filter hook $direction device "eth0" priority 0; policy accept;
EOT
  for set in "$@"; do
    cat <<EOT
      $set meta l4proto @protocol meta l4proto . th $remote @remote meta l4proto . th $local @local @th,104,8 & 0x12 == 0x2 goto aimed-$direction
EOT
  done
  echo "    }"
}

table table.txt netdev netem <<EOT
    chain hit-egress {
      counter fwd to "$LINK";
    }
$(aimed egress hit)
    chain egress {
      type filter hook egress device "eth0" priority 0; policy accept;
      meta priority 8bad:cafe meta priority set none accept
      goto aimed-egress
    }
    chain exit {
      type filter hook ingress device "${LINK}x" priority 0; policy accept;
      @ll,48,48 != 0x72630badcafe meta priority set 8bad:cafe fwd to "eth0"
    }
EOT
capture link-create-ifb.txt ip link add name ${LINK}i mtu 1500 arp off multicast off type ifb
ANY4=0.0.0.0-255.255.255.255
ANY6=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
table table-partition.txt netdev partition <<EOT
$(ranges except4 ipv4_addr "10.0.0.9")
$(ranges except4ports "ipv4_addr . inet_proto . inet_service" "$ANY4 . tcp . 53, $ANY4 . udp . 53")
$(ranges except6ports "ipv6_addr . inet_proto . inet_service" "$ANY6 . tcp . 53, $ANY6 . udp . 53")
$(ranges from6 ipv6_addr "fd00::/8")
$(ranges local "inet_proto . inet_service" "tcp . 1024-65535")
    set protocol {
      type inet_proto
      elements = { tcp }
    }
$(ranges remote "inet_proto . inet_service" "tcp . 80, tcp . 8000-8100")
$(ranges to4 ipv4_addr "10.0.0.0/8, 192.168.1.7")
$(ranges to6ports "ipv6_addr . inet_proto . inet_service" "fd00::1 . tcp . 80, fd00::1 . udp . 80")
$(way egress "fwd to 0" daddr dport sport "ip daddr @to4" "ip6 daddr . meta l4proto . th dport @to6ports")
$(way ingress drop saddr sport dport "ip6 saddr @from6")
EOT
# share VERSION MATCH PORTS: a rule that takes three in ten of the connections of these protocols.
share() {
  echo "      meta protocol $1 $2 jhash $1 saddr . $1 daddr$3 mod 10000 seed 0xbadcafe < 3000 goto hit-ingress"
}
# shares VERSION
shares() {
  share "$1" "meta l4proto tcp" " . @th,0,16 . @th,16,16"
  share "$1" "meta l4proto udp" " . @th,0,16 . @th,16,16"
  share "$1" "meta l4proto != tcp meta l4proto != udp" ""
}
table table-reject.txt inet partition <<EOT
    chain hit-ingress {
      meta l4proto tcp counter reject with tcp reset
      counter reject with icmpx type port-unreachable
    }
    chain sample-ingress {
$(shares ip)
$(shares ip6)
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
EOT
table table-prio.txt inet prio <<EOT
    chain hit-egress {
      counter meta priority set 7062:4
    }
$(aimed egress hit)
    chain egress {
      type filter hook postrouting priority 0; policy accept;
      oif != eth0 accept
      goto aimed-egress
    }
EOT
nft "add table netdev pod-chaos-0badcafe; add set netdev pod-chaos-0badcafe live { type ether_type; flags timeout; }"
capture set-flush.txt nft flush set netdev pod-chaos-0badcafe live
capture table-delete.txt nft delete table netdev pod-chaos-0badcafe
capture link-delete.txt ip link del $LINK

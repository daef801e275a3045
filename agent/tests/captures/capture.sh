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
capture qdisc-delete-root.txt tc qdisc del dev $LINK root
capture table.txt nft "
  table netdev pod-chaos-0badcafe {
    comment \"v1 netem eth0 from 1000 to 6000\"
    set live {
      type ether_type
      flags timeout
      elements = { ip timeout 5s, ip6 timeout 5s }
    }
    chain egress {
      type filter hook egress device \"eth0\" priority 0; policy accept;
      meta priority 7063:7063 meta priority set none accept
      ip6 nexthdr 58 @th,0,8 133-137 accept
      meta protocol @live counter fwd to \"$LINK\"
    }
    chain exit {
      type filter hook ingress device \"${LINK}x\" priority 0; policy accept;
      @ll,48,48 != 0x72630badcafe meta priority set 7063:7063 fwd to \"eth0\"
    }
  }"
capture set-flush.txt nft flush set netdev pod-chaos-0badcafe live
capture table-delete.txt nft delete table netdev pod-chaos-0badcafe
capture link-delete.txt ip link del $LINK

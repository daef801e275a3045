# shellcheck shell=bash
# The lab's network namespace and its addresses. Nothing here touches the machine's own network.
#
#   lab namespace                                guest
#     lo    10.77.0.1  fd77::1                     vec0  10.77.1.2  fd77:1::2
#     lo    10.77.2.1  fd77:2::1
#     guest0  10.77.1.1  fd77:1::1  <-- tap -->    cni0  10.244.1.1  fd00:10:244:1::1
#     cni0  10.244.2.1  fd00:10:244:2::1  (only with the native node)

NETNS=pod-chaos-lab
LAB4=10.77.0.1 LAB6=fd77::1
# No node's: for who looks at pods from outside.
OBSERVER4=10.77.2.1 OBSERVER6=fd77:2::1
LINK4=10.77.1.1 LINK6=fd77:1::1
GUEST4=10.77.1.2 GUEST6=fd77:1::2
BRIDGE_ADDRESS=02:63:6e:69:30:00
CLUSTER4=10.244.0.0/16 CLUSTER6=fd00:10:244::/48
SERVICE4=10.96.0.0/16 SERVICE6=fd00:10:96::/112
DNS4=10.96.0.10 DNS6=fd00:10:96::a
# The third part of a node's pod addresses.
GUEST_PODS=1 NATIVE_PODS=2

# `ip netns exec` would remount /sys and hide the control groups.
inside() { nsenter --net="/run/netns/$NETNS" "$@"; }

network_up() {
  ip netns add "$NETNS"
  inside sh -e <<EOT
ip link set lo up
# Addresses on lo are usable whether or not a node is there.
ip addr add $LAB4/32 dev lo
ip addr add $LAB6/128 dev lo
ip addr add $OBSERVER4/32 dev lo
ip addr add $OBSERVER6/128 dev lo
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
EOT
}

network_guest() {
  inside sh -e <<EOT
ip tuntap add guest0 mode tap
ip addr add $LINK4/24 dev guest0
ip addr add $LINK6/64 dev guest0 nodad
ip link set guest0 up
ip route add 10.244.$GUEST_PODS.0/24 via $GUEST4
ip route add fd00:10:244:$GUEST_PODS::/64 via $GUEST6
# Services, seen from the lab's namespace, are whatever the guest's kube-proxy makes of them.
ip route add $SERVICE4 via $GUEST4
ip route add $SERVICE6 via $GUEST6
EOT
}

# The bridge must hold its addresses before the first pod starts: the kubelet's probes come from them. Without a
# hardware address of its own it takes one of its ports', and another one when that pod ends: the others lose it
# for some seconds.
network_native() {
  inside sh -e <<EOT
ip link add cni0 address $BRIDGE_ADDRESS type bridge
ip addr add 10.244.$NATIVE_PODS.1/24 dev cni0
ip addr add fd00:10:244:$NATIVE_PODS::1/64 dev cni0 nodad
ip link set cni0 up
# Services are whatever this node's kube-proxy makes of them, once a packet has a way; the guest's comes first.
ip route add $SERVICE4 dev lo src $LAB4 metric 2000
ip route add $SERVICE6 dev lo src $LAB6 metric 2000
EOT
}

network_down() {
  [ ! -e "/run/netns/$NETNS" ] || ip netns del "$NETNS"
}

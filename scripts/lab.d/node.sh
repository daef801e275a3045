# shellcheck shell=bash
# Configuration of a node: containerd, CNI, kubelet, kube-proxy.

# node_config NAME PODS ADDRESS4 STATE RUNTIME RESTRICT_OOM
#   PODS: third part of its pods' addresses; STATE: folder, on the node, for what it writes;
#   RUNTIME: runc, or crun, which takes half as long for a container where processes start slowly;
#   RESTRICT_OOM: true where the machine may not let us lower oom_score_adj.
node_config() {
  local name=$1 pods=$2 address=$3 state=$4 runtime=$5 restrict=$6
  local dir=$RUN/node/$name minor=${KUBERNETES_VERSION#1.} oom=-999
  [ "$restrict" = false ] || oom=0
  mkdir -p "$dir/cni"

  cat >"$dir/containerd.toml" <<EOT
version = 2
root = "$state/containerd"
state = "$state/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$state/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:lab"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  restrict_oom_score_adj = $restrict
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        BinaryName = "$runtime"
EOT

  cat >"$dir/cni/lab.conflist" <<EOT
{"cniVersion": "0.4.0", "name": "lab", "plugins": [{
  "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$state/addresses",
    "ranges": [
      [{"subnet": "10.244.$pods.0/24", "rangeStart": "10.244.$pods.10", "gateway": "10.244.$pods.1"}],
      [{"subnet": "fd00:10:244:$pods::/64", "rangeStart": "fd00:10:244:$pods::10", "gateway": "fd00:10:244:$pods::1"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}
EOT

  cat >"$dir/kubelet.yaml" <<EOT
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
containerRuntimeEndpoint: unix://$state/containerd.sock
tlsCertFile: $RUN/pki/$name.crt
tlsPrivateKeyFile: $RUN/pki/$name.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $RUN/pki/ca.crt}
authorization: {mode: Webhook}
clusterDomain: cluster.local
clusterDNS: [$DNS4]
resolvConf: ""
cgroupDriver: cgroupfs
failSwapOn: false
makeIPTablesUtilChains: false
oomScoreAdj: $oom
serializeImagePulls: false
volumePluginDir: $state/volume-plugins
staticPodPath: $state/static-pods
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
EOT
  # From 1.35 on a kubelet refuses the older control groups unless told otherwise.
  [ "$minor" -lt 35 ] || echo 'failCgroupV1: false' >>"$dir/kubelet.yaml"

  cat >"$dir/proxy.yaml" <<EOT
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $name
clusterCIDR: $CLUSTER4,$CLUSTER6
clientConnection: {kubeconfig: $RUN/proxy.kubeconfig}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
nftables: {minSyncPeriod: 100ms}
# These would be settings of the whole machine.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOT
  # The mode is an alpha feature until 1.31.
  [ "$minor" -gt 30 ] || echo 'featureGates: {NFTablesProxyMode: true}' >>"$dir/proxy.yaml"
}

kubelet_command() {
  local name=$1 addresses=$2 state=$3
  echo "$KUBERNETES/kubelet" --config="$RUN/node/$name/kubelet.yaml" \
    --kubeconfig="$RUN/$name.kubeconfig" --hostname-override="$name" --node-ip="$addresses" \
    --root-dir="$state/kubelet"
}

proxy_command() { echo "$KUBERNETES/kube-proxy" --config="$RUN/node/$1/proxy.yaml"; }

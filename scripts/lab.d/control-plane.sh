# shellcheck shell=bash
# etcd, the API server, the controller manager, the scheduler, and CoreDNS, as processes of the machine.

start_etcd() {
  mkdir -m 700 "$RUN/etcd"
  # Nothing of the lab outlives `down`, so nothing has to reach a disk.
  start etcd etcd --name lab --data-dir "$RUN/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster lab=http://127.0.0.1:2380
}

start_apiserver() {
  local pki=$RUN/pki
  start apiserver "$KUBERNETES/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$LAB4" \
    --client-ca-file="$pki/ca.crt" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/apiserver-kubelet.crt" \
    --kubelet-client-key="$pki/apiserver-kubelet.key" \
    --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$pki/service-account.pub" \
    --service-account-signing-key-file="$pki/service-account.key" \
    --service-cluster-ip-range="$SERVICE4,$SERVICE6" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --allow-privileged=true --profiling=false
}

start_controllers() {
  local config
  config=$RUN/controller-manager.kubeconfig
  start controller-manager "$KUBERNETES/kube-controller-manager" --bind-address=127.0.0.1 \
    --kubeconfig="$config" --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" \
    --root-ca-file="$RUN/pki/ca.crt" \
    --cluster-signing-cert-file="$RUN/pki/ca.crt" --cluster-signing-key-file="$RUN/pki/ca.key" \
    --service-account-private-key-file="$RUN/pki/service-account.key" \
    --use-service-account-credentials=true --leader-elect=false
  config=$RUN/scheduler.kubeconfig
  start scheduler "$KUBERNETES/kube-scheduler" --bind-address=127.0.0.1 \
    --kubeconfig="$config" --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" \
    --leader-elect=false
}

# CoreDNS is not a pod: it is there before the first node, and no fault can hit it by accident.
start_coredns() {
  touch "$RUN/hosts"
  cat >"$RUN/Corefile" <<EOT
.:53 {
  bind $LAB4 $LAB6
  ready 127.0.0.1:8181
  errors
  # For tests that need a name with addresses of their choice, and that change.
  hosts $RUN/hosts lab.test {
    ttl 1
    reload 1s
  }
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig $RUN/coredns.kubeconfig lab
    ttl 5
  }
}
EOT
  start coredns "$COREDNS" -conf "$RUN/Corefile"
}

# The DNS Service. It has no pods to select, so its endpoints are given.
apply_dns() {
  kube apply -f - <<EOT
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: $DNS4
  clusterIPs: [$DNS4, "$DNS6"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports:
  - {name: dns, port: 53, protocol: UDP}
  - {name: dns-tcp, port: 53, protocol: TCP}
$(dns_endpoints IPv4 "$LAB4")
$(dns_endpoints IPv6 "$LAB6")
EOT
}

dns_endpoints() {
  cat <<EOT
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns-${1,,}
  namespace: kube-system
  labels: {kubernetes.io/service-name: kube-dns}
addressType: $1
endpoints: [{addresses: ["$2"]}]
ports:
- {name: dns, port: 53, protocol: UDP}
- {name: dns-tcp, port: 53, protocol: TCP}
EOT
}

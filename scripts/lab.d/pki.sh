# shellcheck shell=bash
# Certificates and kubeconfigs, made afresh by each `up`.

pki_up() (
  mkdir -p "$RUN/pki" && cd "$RUN/pki"
  new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
  # sign NAME SUBJECT [ALTERNATIVE-NAMES]
  sign() {
    new_key "$1.key"
    openssl req -new -key "$1.key" -subj "$2" |
      openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out "$1.crt" -extfile <(
        printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n'
        printf 'extendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:+subjectAltName=$3}"
      ) 2>/dev/null
  }
  new_key ca.key
  openssl req -x509 -new -key ca.key -subj /CN=pod-chaos-lab -days 365 -out ca.crt
  new_key service-account.key
  openssl ec -in service-account.key -pubout -out service-account.pub 2>/dev/null
  local service=kubernetes.default.svc
  sign apiserver /CN=kube-apiserver \
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local,IP:127.0.0.1,IP:${SERVICE4%.*}.1,IP:$LAB4,IP:$LAB6"
  sign apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
  sign admin /O=system:masters/CN=admin
  sign coredns /O=system:masters/CN=coredns
  sign controller-manager /CN=system:kube-controller-manager
  sign scheduler /CN=system:kube-scheduler
  sign proxy /CN=system:kube-proxy
  sign guest /O=system:nodes/CN=system:node:guest "DNS:guest,IP:$GUEST4,IP:$GUEST6"
  sign native /O=system:nodes/CN=system:node:native "DNS:native,IP:$LAB4,IP:$LAB6"
  local user
  for user in admin coredns controller-manager scheduler proxy guest native; do
    # The contents and not the paths, so that a kubeconfig can be copied.
    cat >"$RUN/$user.kubeconfig" <<EOT
apiVersion: v1
kind: Config
current-context: lab
clusters:
- name: lab
  cluster: {server: "https://$LAB4:6443", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
- name: $user
  user: {client-certificate-data: $(base64 -w0 "$user.crt"), client-key-data: $(base64 -w0 "$user.key")}
contexts:
- name: lab
  context: {cluster: lab, user: $user, namespace: default}
EOT
  done
)

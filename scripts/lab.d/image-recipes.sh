# shellcheck shell=bash
# shellcheck disable=SC1091 # found through PARTS
# What is in each image. A builder gets the architecture and the folder of unpacked packages; it makes
# image.tar in the current folder.

# shellcheck disable=SC2034 # used by images.sh
STAGE_PACKAGES=(
  apache2-utils bind9-dnsutils busybox-static curl dash iperf3 iproute2 iptables iputils-ping
  netcat-openbsd nftables nginx strace tcpdump
)

# The packages and all they depend on, unpacked but not installed.
build_stage() {
  local deb
  mkdir -p state cache/archives/partial root/usr/{bin,sbin,lib,lib64}
  : >state/status
  # With nothing installed, as this status file says, apt fetches every dependency.
  apt-get -q -y --no-install-recommends -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
    -o Dir::State::status="$PWD/state/status" -o Dir::Cache="$PWD/cache" \
    --download-only install "$@"
  local dir
  for dir in bin sbin lib lib64; do ln -s "usr/$dir" "root/$dir"; done
  for deb in cache/archives/*.deb; do
    case $deb in
      */perl* | */libperl* | */usrmerge*) continue ;; # large, and nothing here uses them
    esac
    # Packages that still name /bin follow the links above.
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C root
  done
  rm -r state cache root/usr/share/{doc,man,locale}
}

build_pause() {
  source "$PARTS/image.sh"
  mkdir root
  cat >pause.c <<'EOT'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int s) { (void)s; _exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0) {} }

int main(void) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
EOT
  gcc -Os -static -s -Wl,--build-id=none -o root/pause pause.c
  pack localhost/pause:lab "$1" root '["/pause"]' null image.tar
  rm -r root pause.c
}

build_shell() {
  source "$PARTS/image.sh"
  base root
  busybox "$2" root
  pack localhost/shell:lab "$1" root null '["sh"]' image.tar
  rm -r root
}

build_nginx() {
  source "$PARTS/image.sh"
  base root
  busybox "$2" root
  take "$2" root /usr/sbin/nginx /etc/nginx/mime.types /etc/nginx/fastcgi_params
  mkdir -p root/usr/share/nginx/html root/var/lib/nginx root/var/log/nginx
  # As large as the official image's page.
  {
    printf '<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head>\n<body>\n<h1>Welcome to nginx!</h1>\n'
    printf '<p>If you see this page, the web server of the pod-chaos lab works.</p>\n%.0s' {1..7}
    printf '</body></html>\n'
  } >root/usr/share/nginx/html/index.html
  cat >root/etc/nginx/nginx.conf <<'EOT'
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr warn;
events { worker_connections 1024; }
http {
  include mime.types;
  access_log off;
  sendfile on;
  keepalive_timeout 65;
  server {
    listen 80;
    listen [::]:80;
    root /usr/share/nginx/html;
  }
}
EOT
  pack localhost/nginx:lab "$1" root null '["nginx","-g","daemon off;"]' image.tar
  rm -r root
}

build_ab() {
  source "$PARTS/image.sh"
  base root
  busybox "$2" root
  rm root/bin/ping
  take "$2" root /usr/bin/ab /usr/bin/curl /bin/ping
  pack localhost/ab:lab "$1" root null '["sleep","infinity"]' image.tar
  rm -r root
}

build_tools() {
  source "$PARTS/image.sh"
  source "$3/recipe.sh"
  tools_root "$2" root
  pack localhost/pod-chaos-tools:lab "$1" root null '["sleep","infinity"]' image.tar
  rm -r root
}

build_agent() {
  source "$PARTS/image.sh"
  mkdir root
  install -m 755 "$2" root/pod-chaos-agent
  pack "$3" "$1" root '["/pod-chaos-agent"]' '["wait"]' image.tar
  rm -r root
}

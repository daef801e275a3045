# shellcheck shell=bash
# Container images as docker-archive files, without an engine: the same input gives the same bytes.

IMAGE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# pack NAME ARCHITECTURE ROOT ENTRYPOINT COMMAND OUT: the last but one two are JSON lists.
pack() {
  local name=$1 architecture=$2 root=$3 entrypoint=$4 command=$5 out=$6 dir layer config
  dir=$(mktemp -d)
  same_tar -C "$root" -cf "$dir/layer.tar" .
  layer=$(sha256sum <"$dir/layer.tar" | cut -d' ' -f1)
  cat >"$dir/config" <<EOT
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z",
"config":{"User":"0","Env":["PATH=$IMAGE_PATH"],"WorkingDir":"/","Entrypoint":$entrypoint,"Cmd":$command},
"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},
"history":[{"created":"1970-01-01T00:00:00Z"}]}
EOT
  config=$(sha256sum <"$dir/config" | cut -d' ' -f1)
  mkdir "$dir/$layer"
  mv "$dir/layer.tar" "$dir/$layer/layer.tar"
  mv "$dir/config" "$dir/$config.json"
  printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["%s/layer.tar"]}]\n' \
    "$config" "$name" "$layer" >"$dir/manifest.json"
  same_tar -C "$dir" -cf "$out" manifest.json "$config.json" "$layer/layer.tar"
  rm -r "$dir"
}

same_tar() {
  tar --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@0 "$@"
}

# take STAGE ROOT FILE...: copies files (or patterns) out of a tree of unpacked packages, with the
# shared libraries they need. Nothing of the tree is run, so it may be of another Debian release.
take() {
  local stage=$1 root=$2 pattern file
  shift 2
  for pattern in "$@"; do
    for file in "$stage"$pattern; do
      [ -e "$file" ] || [ -L "$file" ] || { echo "no $pattern in the packages" >&2; return 1; }
      take_file "$stage" "$root" "${file#"$stage"}"
    done
  done
}

take_file() {
  local stage=$1 root=$2 file=$3 need folder
  [ ! -e "$root$file" ] || return 0
  mkdir -p "$root$(dirname "$file")"
  # A link becomes what it names: the packages' own links are of no interest here.
  cp -L --preserve=mode "$stage$file" "$root$file"
  # The libraries and the loader it names.
  for need in $(readelf -dl "$stage$file" 2>/dev/null |
    sed -n -e 's/.*(NEEDED).*\[\(.*\)\]/\1/p' -e 's/.*interpreter: \(.*\)\]/\1/p'); do
    case $need in
      /*) take_file "$stage" "$root" "$need" ;;
      *)
        for folder in "$stage"/lib/*-linux-gnu "$stage"/lib; do
          [ -e "$folder/$need" ] || continue
          take_file "$stage" "$root" "${folder#"$stage"}/$need"
          break
        done
        ;;
    esac
  done
}

# base ROOT: folders and the few files of /etc that programs look for.
base() {
  local root=$1
  mkdir -p "$root"/{bin,etc,root,run,sbin,tmp,usr/bin,usr/sbin,var/log,var/tmp}
  chmod 1777 "$root/tmp" "$root/var/tmp"
  chmod 700 "$root/root"
  printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n' \
    >"$root/etc/passwd"
  printf 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n' >"$root/etc/group"
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
}

# busybox STAGE ROOT: the shell and its hundreds of names.
busybox() {
  local name
  cp --preserve=mode "$1/bin/busybox" "$2/bin/busybox"
  for name in $("$1/bin/busybox" --list); do
    [ "$name" = busybox ] || ln -s busybox "$2/bin/$name"
  done
}

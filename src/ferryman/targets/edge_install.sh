#!/bin/sh
# Install, update, take back or remove Ferryman on this box. Needs no network; may be run again at any time.
#   sh install.sh [--root DIR] [--no-start]     install, or update to what lies beside this file
#   sh install.sh --rollback | --uninstall [--purge]
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
root= start=yes what=install purge=no
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=$2; start=no; shift ;;
    --no-start) start=no ;;
    --rollback) what=rollback ;;
    --uninstall) what=uninstall ;;
    --purge) purge=yes ;;
    *) echo "error: $1 is not known; see the head of this file" >&2; exit 2 ;;
  esac
  shift
done
prefix=$root/opt/ferryman state=$root/var/lib/ferryman settings=$root/etc/ferryman units=$root/etc/systemd/system
names="ferryman-edge.socket ferryman-edge.service ferryman-agent.service"
fail() { echo "error: $1" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "run it as root"
[ -d /run/systemd/system ] || start=no

# Make a link lead elsewhere in one step: a power cut leaves the old one or the new one.
point() { ln -sfn "$2" "$1.new"; mv -T "$1.new" "$1"; sync; }

moved=no  # is the port another one?
write_units() {
  mkdir -p "$units"
  runtime=/opt/ferryman/$(readlink "$prefix/runtime")
  for name in $names; do
    sed "s|@RUNTIME@|$runtime|" "$prefix/runtime/units/$name" >"$units/.$name.new"
    case $name in *.socket) [ "$(cat "$units/$name" 2>/dev/null)" = "$(cat "$units/.$name.new")" ] || moved=yes ;; esac
    mv "$units/.$name.new" "$units/$name"
  done
}

# Run a command in the runtime that comes, with this box's folders in it.
inside() {
  unshare --mount sh -c '
    runtime=$1 state=$2 settings=$3; shift 3
    mount --bind "$state" "$runtime/var/lib/ferryman"; mount --bind "$settings" "$runtime/etc/ferryman"
    for folder in proc sys dev; do mount --rbind "/$folder" "$runtime/$folder"; done
    export PYTHONPATH=/opt/ferryman/site-packages PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
    exec chroot "$runtime" "$@"' sh "$prefix/runtimes/$name" "$state" "$settings" "$@"
}

# systemd takes a number for a user only where the box's list of users has it.
add_user() {
  for line in passwd=ferryman:x:65532:65532:Ferryman:/nonexistent:/usr/sbin/nologin group=ferryman:x:65532:; do
    file=$root/etc/${line%%=*}
    [ -f "$file" ] && ! grep -q '^[^:]*:[^:]*:65532:' "$file" || continue
    [ -z "$(tail -c 1 "$file")" ] || echo >>"$file"
    echo "${line#*=}" >>"$file"
  done
}

# The socket stays, with all who wait at it; without a fleet the agent has nothing to follow.
restart() {
  [ $start = yes ] || return 0
  wanted=ferryman-edge.service
  if grep -q '^WantedBy=' "$units/ferryman-agent.service"; then wanted="$wanted ferryman-agent.service"; fi
  systemctl daemon-reload
  systemctl enable --quiet ferryman-edge.socket $wanted
  [ $moved = no ] || systemctl stop ferryman-edge.service ferryman-edge.socket
  systemctl start ferryman-edge.socket
  systemctl restart $wanted
}

if [ $what = uninstall ]; then
  if [ -d /run/systemd/system ] && [ -z "$root" ]; then systemctl disable --quiet --now $names 2>/dev/null || true; fi
  for name in $names; do rm -f "$units/$name"; done
  rm -rf "$prefix/runtimes" "$prefix/runtime" "$prefix/previous"
  if [ $purge = yes ]; then
    rm -rf "$state" "$settings"
    for file in "$root/etc/passwd" "$root/etc/group"; do
      [ ! -f "$file" ] || sed -i '/^ferryman:x:65532:/d' "$file"
    done
  fi
  echo "removed$([ $purge = yes ] || echo "; $state and $settings are kept (--purge takes them, too)")"
  exit 0
fi
if [ $what = rollback ]; then
  [ -L "$prefix/previous" ] || fail "there is no runtime from before"
  now=$(readlink "$prefix/runtime")
  point "$prefix/runtime" "$(readlink "$prefix/previous")"
  point "$prefix/previous" "$now"
  write_units; restart
  echo "runtime $(readlink "$prefix/runtime")"
  exit 0
fi

case ${FERRYMAN_MACHINE:-$(uname -m)} in
  @MACHINES@) ;;
  *) fail "this archive is for @PLATFORM@, not for $(uname -m)" ;;
esac
(cd "$here" && sha256sum --quiet -c SHA256SUMS) || fail "a file beside this one was changed: copy the archive again"
name=@DIGEST@
mkdir -p "$prefix/runtimes" "$state" "$settings/keys"
if [ ! -d "$prefix/runtimes/$name" ]; then
  rm -rf "$prefix/runtimes/.$name.new"
  mkdir "$prefix/runtimes/.$name.new"
  for layer in "$here"/layers/*; do tar -xf "$layer" -C "$prefix/runtimes/.$name.new" || fail "no room? see above"; done
  for folder in ./var/lib/ferryman ./etc/ferryman ./etc units proc sys dev; do mkdir -p "$prefix/runtimes/.$name.new/$folder"; done
  for file in resolv.conf hosts; do : >>"$prefix/runtimes/.$name.new/etc/$file"; done
  cp "$here"/units/* "$prefix/runtimes/.$name.new/units/"
  sync
  mv -T "$prefix/runtimes/.$name.new" "$prefix/runtimes/$name"
fi
[ -f "$settings/box.toml" ] || cp "$here/box.toml" "$settings/box.toml"
for key in "$here"/keys/*; do [ ! -f "$key" ] || cp "$key" "$settings/keys/"; done
[ $start = no ] || systemctl stop ferryman-agent.service 2>/dev/null || true
mkdir -p "$state/.incoming"
cp "$here/bundle.ferry" "$state/.incoming/bundle.ferry"
inside /usr/local/bin/python3 -m ferryman fleet install /var/lib/ferryman/.incoming/bundle.ferry --box /etc/ferryman/box.toml || {
  rm -rf "$state/.incoming"
  [ $start = no ] || systemctl start ferryman-agent.service || true
  fail "the bundle is not served by this runtime: nothing was changed"
}
rm -rf "$state/.incoming"
chown -R 65532:65532 "$state"
if [ "$(readlink "$prefix/runtime" || true)" != "runtimes/$name" ]; then
  [ ! -L "$prefix/runtime" ] || point "$prefix/previous" "$(readlink "$prefix/runtime")"
  point "$prefix/runtime" "runtimes/$name"
fi
for old in "$prefix"/runtimes/* "$prefix"/runtimes/.*.new; do
  case runtimes/${old##*/} in
    "$(readlink "$prefix/runtime")" | "$(readlink "$prefix/previous" || true)") ;;
    *) rm -rf "$old" ;;
  esac
done
add_user
write_units
restart
echo "installed: $(du -smL "$prefix/runtime" | cut -f1) MB in $prefix, $(du -sm "$state" | cut -f1) MB in $state"

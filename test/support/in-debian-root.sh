#!/usr/bin/env bash
# Runs tests of this checkout beside RabbitMQ and Redis of another Debian than this machine's: in a root directory with its
# packages, which is made where it is not there. Node.js and npm are this machine's, and so is the network; mounts and
# processes end with the run.
#
#   sudo test/support/in-debian-root.sh [files]      as `npm test -- files`; without files: test/integration and test/chaos
#
# DEBIAN_RELEASE   default trixie: RabbitMQ 4.0, Redis 8.0, PostgreSQL 17
# DEBIAN_ROOT      the directory, default /var/tmp/inorder-RELEASE; it stays for the next run, and may be removed
# DEBIAN_MIRROR    where packages come from; default what apt of this machine uses, if that is Debian's
#
# Needs root and debootstrap.
set -euo pipefail

stop() { echo "in-debian-root: $*" >&2; exit 2; }

release=${DEBIAN_RELEASE:-trixie}
root=${DEBIAN_ROOT:-/var/tmp/inorder-$release}
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
packages=(rabbitmq-server redis-server postgresql pgbouncer prometheus chromium fonts-dejavu-core ca-certificates git openssl procps)

[ "$(id -u)" = 0 ] || stop 'another root directory takes root: run it with sudo'
node=$(command -v node) || stop 'there is no node on the PATH'
npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")

# What is /tmp in there. Each run has its own: its process ids are its own too, by which it would take the directories of another
# run for left behind.
tmp=$(mktemp -d /var/tmp/inorder-run-XXXXXX)
chmod 1777 "$tmp"
trap 'rm -rf --one-file-system "$tmp"' EXIT

# Runs a command in the root, with this machine's devices; "$1" is a script that mounts what else it takes.
inside() {
  local mounts=$1
  shift
  # shellcheck disable=SC2016
  root=$root tmp=$tmp checkout=$checkout node=$node npm=$npm unshare --mount --propagation private --pid --fork --kill-child bash -euc '
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --bind "$tmp" "$root/tmp"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    '"$mounts"'
    exec chroot "$root" "$@"
  ' bash "$@"
}

# It has its own name only when it is whole.
if [ ! -e "$root" ]; then
  command -v debootstrap > /dev/null || stop "$root is not there, and there is no debootstrap to make it (Debian: apt-get install debootstrap)"
  mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | head -n 1)}
  whole=$root
  root=$whole.part
  rm -rf --one-file-system "$root"
  echo "in-debian-root: making $whole of Debian $release, once" >&2
  debootstrap --variant=minbase --include=ca-certificates "$release" "$root" ${mirror:+"$mirror"} >&2
  printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  inside '' apt-get -qq update >&2
  inside '' env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >&2
  rm -rf "$root"/var/cache/apt/archives/*.deb
  mv "$root" "$whole"
  root=$whole
fi

cd "$checkout"
files=("$@")
[ $# -gt 0 ] || files=(test/{integration,chaos}/*.test.ts)

mkdir -p "$root/usr/local/lib/node_modules/npm"
touch "$root/usr/local/bin/node"
ln -sfn ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
# What is named here is the machine's outside, and not what is to be tested.
unset AMQP_URL MANAGEMENT_URL REDIS_URL DATABASE_URL DOCKER_HOST TMPDIR
# shellcheck disable=SC2016
inside '
  mkdir -p "$root$checkout"
  mount --bind "$checkout" "$root$checkout"
  mount --bind "$node" "$root/usr/local/bin/node"
  mount --bind "$npm" "$root/usr/local/lib/node_modules/npm"
' env "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" LANG=C.UTF-8 npm --prefix "$checkout" test -- --verbose "${files[@]}"

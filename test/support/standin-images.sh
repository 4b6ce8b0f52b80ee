#!/usr/bin/env bash
# Builds images that stand in for rabbitmq:4-management and redis:7 where no image registry can be reached but Debian
# packages can: the same programs, with the entry points, ports and configuration places of the official images.
#
#   sudo test/support/standin-images.sh [debian release, default trixie] [image tags, default the two above]
#
# Needs root, debootstrap, and a Docker engine (DOCKER_HOST is honoured).
set -euo pipefail

release=${1:-trixie}
rabbit_image=${2:-rabbitmq:4-management}
redis_image=${3:-redis:7}

root=$(mktemp -d "${TMPDIR:-/tmp}/standin-XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT

debootstrap --variant=minbase --include=rabbitmq-server,redis-server "$release" "$root"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
# A node's data and name belong to a container, not to the image.
rm -rf "$root"/var/lib/rabbitmq/mnesia "$root"/var/lib/rabbitmq/.erlang.cookie
mkdir -p "$root/etc/rabbitmq/conf.d"
echo 'loopback_users.guest = false' > "$root/etc/rabbitmq/conf.d/10-defaults.conf"
echo '[rabbitmq_management].' > "$root/etc/rabbitmq/enabled_plugins"

# The scripts behind Debian's wrappers, which would change to another user.
tar -C "$root" -c . | docker import \
  --change 'ENV HOME=/var/lib/rabbitmq LANG=C.UTF-8 RABBITMQ_LOGS=- PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'EXPOSE 5672 15672' \
  --change 'VOLUME /var/lib/rabbitmq' \
  --change 'CMD ["rabbitmq-server"]' \
  - "$rabbit_image"
tar -C "$root" -c . | docker import \
  --change 'EXPOSE 6379' \
  --change 'VOLUME /data' \
  --change 'WORKDIR /data' \
  --change 'CMD ["redis-server"]' \
  - "$redis_image"

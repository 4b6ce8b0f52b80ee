#!/usr/bin/env bash
# Builds images that stand in for those that docker-compose.yml and the tests use, where no image registry can be reached
# but Debian packages can: the same programs, with the entry points, ports and places for configuration of the official
# images. For Node.js they hold this machine's own, with npm's cache; in place of Grafana, which Debian has not, something
# that is healthy when what it is to be given is there.
#
#   sudo test/support/standin-images.sh [debian release, default trixie]
#
# Tags are those of the official images, or RABBITMQ_IMAGE, REDIS_IMAGE, PROMETHEUS_IMAGE, ALERTMANAGER_IMAGE, GRAFANA_IMAGE
# and NODE_IMAGE. Needs root, debootstrap, and a Docker engine (DOCKER_HOST is honoured).
set -euo pipefail

release=${1:-trixie}
base=inorder-standin:$release

root=$(mktemp -d "${TMPDIR:-/tmp}/standin-XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT

debootstrap --variant=minbase --include=rabbitmq-server,redis-server,prometheus,prometheus-alertmanager,ca-certificates,wget "$release" "$root"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
# A node's data and name belong to a container, not to the image.
rm -rf "$root"/var/lib/rabbitmq/mnesia "$root"/var/lib/rabbitmq/.erlang.cookie
mkdir -p "$root/etc/rabbitmq/conf.d" "$root/prometheus" "$root/alertmanager"
echo 'loopback_users.guest = false' > "$root/etc/rabbitmq/conf.d/10-defaults.conf"
echo '[rabbitmq_management].' > "$root/etc/rabbitmq/enabled_plugins"
chown 65534:65534 "$root/prometheus" "$root/alertmanager"

node=$(command -v node)
npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
cp "$node" "$root/usr/local/bin/node"
mkdir -p "$root/usr/local/lib/node_modules"
cp -r "$npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
mkdir "$root/npm-cache"
cp -r "$(npm config get cache)/_cacache" "$root/npm-cache/"

tar -C "$root" -c . | docker import - "$base"

# tag, then the lines that make the image of it
image() {
  local tag=$1
  shift
  printf '%s\n' "FROM $base" "$@" | DOCKER_BUILDKIT=0 docker build -q -t "$tag" -
}

# The scripts behind Debian's wrappers, which would change to another user.
image "${RABBITMQ_IMAGE:-rabbitmq:4.1.4-management}" \
  'ENV HOME=/var/lib/rabbitmq LANG=C.UTF-8 RABBITMQ_LOGS=- PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  'EXPOSE 5672 15672 15692' 'VOLUME /var/lib/rabbitmq' 'CMD ["rabbitmq-server"]'
# The official one is reachable from other containers without a password.
image "${REDIS_IMAGE:-redis:7.4.6}" 'EXPOSE 6379' 'VOLUME /data' 'WORKDIR /data' \
  'ENTRYPOINT ["sh", "-c", "exec \"$@\" --protected-mode no", "redis"]' 'CMD ["redis-server"]'
image "${PROMETHEUS_IMAGE:-prom/prometheus:v3.5.0}" 'USER 65534' 'EXPOSE 9090' 'VOLUME /prometheus' 'ENTRYPOINT ["prometheus"]'
image "${ALERTMANAGER_IMAGE:-prom/alertmanager:v0.28.1}" 'USER 65534' 'EXPOSE 9093' 'VOLUME /alertmanager' 'ENTRYPOINT ["prometheus-alertmanager"]'
image "${GRAFANA_IMAGE:-grafana/grafana:12.1.0}" 'USER 472' 'EXPOSE 3000' \
  'CMD ["node", "-e", "const { readFileSync, readdirSync } = require(`node:fs`); require(`node:http`).createServer((_, response) => { try { readdirSync(`/etc/grafana/provisioning/datasources`); readdirSync(`/etc/grafana/provisioning/dashboards`); JSON.parse(readFileSync(process.env.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH)); response.end(`ok`); } catch (error) { response.writeHead(500).end(String(error)); } }).listen(3000); process.on(`SIGTERM`, () => process.exit())"]'
image "${NODE_IMAGE:-node:24.11.1-bookworm-slim}" 'ENV npm_config_offline=true npm_config_cache=/npm-cache' 'RUN useradd --uid 1000 --create-home node'

#!/bin/sh
# A sentinel keeps in its file what it learns, so the file is made once a pod, with what the others know by then.
set -eu
self="$POD_NAME.redis-members"
file=/sentinel/sentinel.conf
export REDISCLI_AUTH="$REDIS_PASSWORD"

if [ ! -s "$file" ]; then
  primary=""
  for ordinal in 0 1 2; do
    primary=$(timeout 2 redis-cli -h "redis-$ordinal.redis-members" -p 26379 sentinel get-master-addr-by-name darda 2>/dev/null | head -n 1) || true
    case "$primary" in redis-*.redis-members) break ;; *) primary="" ;; esac
  done
  : "${primary:=redis-0.redis-members}"
  # A name that does not resolve yet is refused: wait for it, as the pod of the primary may be on its way.
  until getent hosts "$primary" >/dev/null; do sleep 1; done
  umask 077
  cat >"$file.new" <<CONF
port 26379
dir /sentinel
requirepass $REDIS_PASSWORD
sentinel sentinel-pass $REDIS_PASSWORD
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $self
sentinel monitor darda $primary 6379 2
sentinel auth-pass darda $REDIS_PASSWORD
sentinel down-after-milliseconds darda 5000
sentinel failover-timeout darda 30000
sentinel parallel-syncs darda 1
CONF
  mv "$file.new" "$file"
fi
exec redis-server "$file" --sentinel

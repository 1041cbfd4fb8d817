#!/bin/sh
# Starts Redis as what the sentinels say it is; where none of them answers, which is so at the very start, the first member is the primary.
set -eu
self="$POD_NAME.redis-members"
export REDISCLI_AUTH="$REDIS_PASSWORD"

primary=""
for ordinal in 0 1 2; do
  primary=$(timeout 2 redis-cli -h "redis-$ordinal.redis-members" -p 26379 sentinel get-master-addr-by-name darda 2>/dev/null | head -n 1) || true
  case "$primary" in redis-*.redis-members) break ;; *) primary="" ;; esac
done
: "${primary:=redis-0.redis-members}"

set -- /config/redis.conf --replica-announce-ip "$self"
if [ "$primary" != "$self" ]; then set -- "$@" --replicaof "$primary" 6379; fi
exec redis-server "$@"

import type { RedisConnection } from "./RedisConnection.ts"

/**
 * The scripts of the router. All of them run also when Redis has no memory left: what they hold is little and bounded, and a Redis that is full of read
 * models should not keep people from talking. Hence Redis 7, which lets a script say so.
 */
const lua = (body: string): string => `#!lua flags=allow-oom\n${body}`

const NOW = `local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** The rest of a route without one incarnation, and without earlier ones of the same node. */
const WITHOUT = `local function without(route, id)
  local node = string.match(id, '^(.*)%.%d+$')
  local rest = ''
  for one in string.gmatch(route, '%S+') do
    if string.match(one, '^(.*)%.%d+$') ~= node then rest = rest == '' and one or rest .. ' ' .. one end
  end
  return rest
end
`

/**
 * KEYS lease, stream; ARGV the entry's two fields, the bytes that may wait. 1: appended; 0: there is no such node; -1: the node does not take, and its lease
 * ends here, as if it had died: it finds out, and others do not wait for it.
 */
const append = lua(`local lease = redis.call('HMGET', KEYS[1], 'e', 'n', 'b', 't')
if not lease[1] then return 0 end
local bytes = lease[3] + #ARGV[1] + #ARGV[2] + 100
if bytes - lease[4] > tonumber(ARGV[3]) then
  redis.call('UNLINK', KEYS[1], KEYS[2])
  return -1
end
local n = lease[2] + 1
redis.call('HSET', KEYS[1], 'n', n, 'b', bytes)
redis.call('XADD', KEYS[2], lease[1] .. '-' .. n, 'm', ARGV[1], 'f', ARGV[2])
if n == 1 then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
return 1`)

/** KEYS lease, stream; ARGV epoch, the last number that was taken, the bytes that were taken. */
const taken = lua(`if redis.call('HGET', KEYS[1], 'e') ~= ARGV[1] then return 0 end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[1] .. '-' .. (ARGV[2] + 1))
redis.call('HSET', KEYS[1], 't', ARGV[3])
return 1`)

/** KEYS lease, stream; ARGV epoch, milliseconds. A late call of an earlier attempt changes nothing. */
const join = lua(`local epoch = redis.call('HGET', KEYS[1], 'e')
if epoch and tonumber(epoch) >= tonumber(ARGV[1]) then return 0 end
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'e', ARGV[1], 'n', 0, 'b', 0, 't', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)

/**
 * KEYS lease, stream; ARGV epoch, milliseconds for the lease and the stream, the last number that was taken. 1: renewed; 0: the lease is missing or another one; -1: it is
 * as it was before; -2: the next entry is missing.
 */
const renew = lua(`local lease = redis.call('HMGET', KEYS[1], 'e', 'n')
if lease[1] ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local n, last = tonumber(lease[2]), tonumber(ARGV[4])
if n < last then return -1 end
local id = ARGV[1] .. '-' .. (last + 1)
if n > last and #redis.call('XRANGE', KEYS[2], id, id) == 0 then return -2 end
return 1`)

/** KEYS nodes; ARGV incarnation, milliseconds, whether it is new. 0: it had run out. */
const renewNode = lua(`${NOW}local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[3] == '0' and (not until_ or tonumber(until_) < now) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return 1`)

/** KEYS nodes. The incarnations that are alive. */
const living = `#!lua flags=no-writes\n${NOW}return redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')`

/** KEYS nodes. The time, and incarnations that ran out, each with the time when it did. */
const dead = `#!lua flags=no-writes\n${NOW}return { now, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, 100) }`

/**
 * KEYS routes, held, seen of one part; ARGV incarnation, users in \`seen\` at most, and what to do in order: \`+user\`, or \`-user\` and for how many milliseconds
 * they have been gone. A big conversation (\`g:…\`) is held like a user, and nobody is seen with it. For each the route before it was made; or what is left of it, and when they were seen last. Nothing for one that was not held.
 */
const hold = lua(`${NOW}${WITHOUT}local id = ARGV[1]
local answer = {}
for i = 3, #ARGV do
  local user, gone = string.match(ARGV[i], '^.(%S+) ?(%d*)$')
  local route = redis.call('HGET', KEYS[1], user) or ''
  local rest = without(route, id)
  if string.sub(ARGV[i], 1, 1) == '+' then
    redis.call('HSET', KEYS[1], user, rest == '' and id or rest .. ' ' .. id)
    redis.call('SADD', KEYS[2], user)
    answer[i - 2] = { route }
  elseif redis.call('SREM', KEYS[2], user) == 0 then
    answer[i - 2] = false
  else
    if rest == '' then redis.call('HDEL', KEYS[1], user) else redis.call('HSET', KEYS[1], user, rest) end
    if string.sub(user, 1, 2) ~= 'g:' then redis.call('ZADD', KEYS[3], 'GT', now - gone, user) end
    answer[i - 2] = { rest, now - gone }
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[2])
return answer`)

/**
 * KEYS routes, held, seen of one part; ARGV incarnation, users in \`seen\` at most, users at once, when it was last alive. How many users were let go, and then
 * the users among them whom nobody holds now.
 */
const sweep = lua(`local users = redis.call('SPOP', KEYS[2], ARGV[3])
local answer = { #users }
for _, user in ipairs(users) do
  local route = redis.call('HGET', KEYS[1], user)
  if route then
    local rest = ''
    for one in string.gmatch(route, '%S+') do
      if one ~= ARGV[1] then rest = rest == '' and one or rest .. ' ' .. one end
    end
    local isUser = string.sub(user, 1, 2) ~= 'g:'
    if isUser then redis.call('ZADD', KEYS[3], 'GT', ARGV[4], user) end
    if rest == '' then
      redis.call('HDEL', KEYS[1], user)
      if isUser then answer[#answer + 1] = user end
    else
      redis.call('HSET', KEYS[1], user, rest)
    end
  end
end
if #users == 0 then redis.call('HDEL', KEYS[1], '*' .. ARGV[1]) end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[2])
return answer`)

/**
 * KEYS routes of one part; ARGV incarnation. The value is so long that Redis keeps the hash as a table from the first user on: its compact form for up to
 * 512 short values is searched from end to end, by every look-up.
 */
const canary = lua(`return redis.call('HSET', KEYS[1], '*' .. ARGV[1], string.rep('-', 65))`)

/** KEYS claim; ARGV milliseconds. Whether this was the first. */
const claim = lua(`return redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) and 1 or 0`)

const scripts = { append, taken, join, renew, renewNode, living, dead, canary, hold, sweep, claim } as const

/** The name of a script as a command. */
export const named = (script: keyof typeof scripts): string => `dardaRouter_${script}`

/** Makes the scripts known to a connection. */
export const defineScripts = (redis: RedisConnection): void => {
  for (const [name, text] of Object.entries(scripts)) redis.script(named(name as keyof typeof scripts), text)
}

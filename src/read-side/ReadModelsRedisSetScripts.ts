/** What is done with whole sets: snapshots, a set beside the live one, and taking away what is left of former ones. */
import { NAMES } from "./ReadModelsRedisScripts.ts"
import { TAIL } from "./ReadModelsRedisRows.ts"

/** Answers how much there is. */
export const COUNTS = `${NAMES}
return redis.call('HMGET', G .. 'n', 'conversations', 'members', 'messages', 'reactions')
`

/** For a key that holds a token: prolongs it. ARGV: token, milliseconds. Answers whether it was still there. */
export const PROLONG = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`

/** Takes such a key away, if it is still ours. ARGV: token. */
export const LET_GO = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`

/**
 * Begins a snapshot: from now on a conversation is copied before it changes for the first time. ARGV: token, milliseconds. Answers the pointer and `ok`, `busy` (somebody
 * else reads one), or `unclean` (copies of an earlier one are left).
 */
export const SNAPSHOT = `${NAMES}
if now == '' then return {now, 'ok'} end
if redis.call('EXISTS', G .. 's') == 1 then return {now, 'busy'} end
if redis.call('EXISTS', G .. 'z') == 1 then return {now, 'unclean'} end
redis.call('SET', G .. 's', ARGV[1], 'PX', ARGV[2])
return {now, 'ok'}
`

/** Takes away copies of a snapshot that is over. ARGV: generation, how many. Answers how many are left. */
export const UNSAVE = `${NAMES}
G = P .. ARGV[1] .. ':'
if redis.call('EXISTS', G .. 's') == 1 then return 0 end
for _, conv in ipairs(redis.call('SPOP', G .. 'z', ARGV[2])) do
  redis.call('UNLINK', G .. 'zc:' .. conv, G .. 'zt:' .. conv, G .. 'zr:' .. conv)
end
return redis.call('SCARD', G .. 'z')
`

/** ARGV: generation, a conversation or nothing, how many. Answers the conversations after it in the order of ids. */
export const REGISTER = `${NAMES}
return redis.call('ZRANGEBYLEX', P .. ARGV[1] .. ':all', ARGV[2] == '' and '-' or '(' .. ARGV[2], '+', 'LIMIT', 0, ARGV[3])
`

/**
 * ARGV: generation, token, conversations. Answers of each all fields, messages and reactions as they were when the snapshot began; nothing of one that is newer. And,
 * where nothing has changed since, the users who are not found as members by the lists that lead to them. Fails when the snapshot is over.
 */
export const DUMP = `${NAMES}
G = P .. ARGV[1] .. ':'
if redis.call('GET', G .. 's') ~= ARGV[2] then return redis.error_reply('GONE the snapshot is over') end
local found = {}
for i = 3, #ARGV do
  local conv = ARGV[i]
  local saved = redis.call('SISMEMBER', G .. 'z', conv) == 1 and 'z' or ''
  local fields = redis.call('HGETALL', G .. saved .. 'c:' .. conv)
  local unlisted = {}
  if saved == '' then
    local listed = string.byte(conv) ~= ${"d".charCodeAt(0)} and redis.call('ZCARD', G .. 'o:' .. conv)
    for j = 1, #fields, 2 do
      if string.sub(fields[j], 1, 1) == ':' then
        local user = string.sub(fields[j], 2)
        local left = string.match(fields[j + 1], '%d+$')
        local wrong = redis.call('HGET', G .. 'u:' .. user, conv) ~= left
        if listed and (redis.call('ZSCORE', G .. 'o:' .. conv, user) ~= false) ~= (left == '0') then wrong = true end
        if listed and left == '0' then listed = listed - 1 end
        if wrong then unlisted[#unlisted + 1] = user end
      end
    end
    if listed and listed ~= 0 then unlisted[#unlisted + 1] = '' end
  end
  found[#found + 1] = {
    fields,
    redis.call('LRANGE', G .. saved .. 't:' .. conv, -${TAIL}, -1),
    redis.call('ZRANGE', G .. saved .. 'r:' .. conv, 0, -1),
    unlisted
  }
end
return found
`

/** Puts an empty set in this place. ARGV: its generation. What was there is left to be purged. */
export const BEGIN = `${NAMES}
redis.call('SADD', P .. 'gens', ARGV[1])
redis.call('SET', KEYS[1], ARGV[1] .. ':0')
return 'ok'
`

/** Gives a set up. ARGV: its generation. */
export const GIVE_UP = `${NAMES}
if string.sub(now, 1, 8) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`

/** Holds the live set still. ARGV: token, milliseconds. Answers the pointer. */
export const HOLD = `${NAMES}
redis.call('SET', P .. 'hold', ARGV[1], 'PX', ARGV[2])
return now
`

/** The shadow takes the live set's place, if both are as expected and it is still held. ARGV: token, live pointer, shadow pointer. */
export const FLIP = `${NAMES}
if redis.call('GET', P .. 'hold') ~= ARGV[1] then return 'it was not held any more' end
if now ~= ARGV[2] then return 'it has moved' end
if redis.call('GET', P .. 'next') ~= ARGV[3] then return 'the rebuilt one is gone' end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('DEL', P .. 'next', P .. 'hold')
return 'ok'
`

/** Answers generations that are neither live nor a shadow, and can never be again. */
export const ORPHANS = `${NAMES}
local live = string.sub(redis.call('GET', P .. 'live') or '', 1, 8)
local shadow = string.sub(redis.call('GET', P .. 'next') or '', 1, 8)
local found = {}
for _, generation in ipairs(redis.call('SMEMBERS', P .. 'gens')) do
  if generation ~= live and generation ~= shadow then found[#found + 1] = generation end
end
return found
`

/** Takes away a part of such a generation, unless somebody reads a snapshot of it. ARGV: generation, how many conversations. Answers 1 while there is more. */
export const PURGE = `${NAMES}
local generation = ARGV[1]
for _, pointer in ipairs({'live', 'next'}) do
  if string.sub(redis.call('GET', P .. pointer) or '', 1, 8) == generation then return 0 end
end
G = P .. generation .. ':'
if redis.call('EXISTS', G .. 's') == 1 then return 0 end
for _, block in ipairs(redis.call('RPOP', G .. 'bx', ARGV[2]) or {}) do redis.call('UNLINK', G .. 'b:' .. block) end
for _, conv in ipairs(redis.call('SPOP', G .. 'z', ARGV[2])) do
  redis.call('UNLINK', G .. 'zc:' .. conv, G .. 'zt:' .. conv, G .. 'zr:' .. conv)
end
for _, conv in ipairs(redis.call('ZRANGE', G .. 'all', 0, ARGV[2] - 1)) do
  for _, field in ipairs(redis.call('HKEYS', G .. 'c:' .. conv)) do
    if string.sub(field, 1, 1) == ':' then redis.call('UNLINK', G .. 'u:' .. string.sub(field, 2)) end
  end
  redis.call('UNLINK', G .. 'c:' .. conv, G .. 't:' .. conv, G .. 'r:' .. conv, G .. 'o:' .. conv)
  redis.call('ZREM', G .. 'all', conv)
end
if redis.call('EXISTS', G .. 'all', G .. 'bx', G .. 'z') > 0 then return 1 end
redis.call('DEL', G .. 'n')
redis.call('SREM', P .. 'gens', generation)
return 0
`

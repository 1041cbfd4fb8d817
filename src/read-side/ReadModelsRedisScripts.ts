/**
 * What runs in Redis. Every script is given one key, the pointer of a partition, and touches only keys with the same hash tag; it builds their names itself, because
 * the generation in them is what the pointer says. Writes compare the pointer first. A script that is refused for want of memory is refused at its first write, so
 * that it is done whole or not at all.
 */
import { TAIL } from "./ReadModelsRedisRows.ts"

/** The prefix of the partition and of the generation: both pointers have names of four letters, and all generations of eight. */
export const NAMES = `
local now = redis.call('GET', KEYS[1]) or ''
local P = string.sub(KEYS[1], 1, -5)
local G = P .. string.sub(now, 1, 8) .. ':'
`

/** Entries by which a list may be longer than the tail, so that it is not trimmed for every message. What is before the last 200 does not count as kept. */
const SLACK = 32

/** Finds a place in the tail: the index of the first entry that is kept, and of the first with this seq or a higher one. */
export const FIND = `
local function seqOf(entry) return tonumber(string.match(entry, '^%[(%d+)')) end
local function firstOf(length) return math.max(0, length - ${TAIL}) end
local function find(key, length, seq)
  local low, high = firstOf(length), length
  while low < high do
    local middle = math.floor((low + high) / 2)
    if seqOf(redis.call('LINDEX', key, middle)) < seq then low = middle + 1 else high = middle end
  end
  return low
end
`

/** HMGET of any number of fields: `unpack` takes some thousands. */
export const HMGET = `
local function hmget(key, fields)
  local found = {}
  for i = 1, #fields, 1000 do
    local part = redis.call('HMGET', key, unpack(fields, i, math.min(i + 999, #fields)))
    for j = 1, #part do found[#found + 1] = part[j] end
  end
  return found
end
`

/**
 * ARGV: the expected pointer, the next one, by how many the members grew, then operations, each a letter and what it needs:
 *
 * - `c conv fields entries f v … e …` fields of the conversation, and messages at the end of its tail
 * - `e conv old new` another entry in place of one in the tail
 * - `r conv seq reaction 1|0`, `x conv seq` a reaction set or taken back, all of a message taken away
 * - `k conv` reactions of messages that are in the tail no more go
 * - `o conv n user …`, `q conv n user …` into and out of the list of members
 * - `u user conv left` the conversation among the user's
 * - `b conv block` a message in this block of older ones was amended
 * - `a conv` a new conversation
 *
 * Answers `ok`, `held`, or `!` and the pointer that it found.
 */
export const APPLY = `${NAMES}${FIND}
if now ~= ARGV[1] then return '!' .. now end
if KEYS[1] == P .. 'live' and redis.call('EXISTS', P .. 'hold') == 1 then return 'held' end
local next = ARGV[2]
if now == '' then
  local generation = string.sub(next, 1, 8)
  redis.call('SADD', P .. 'gens', generation)
  G = P .. generation .. ':'
end
local saving = redis.call('EXISTS', G .. 's') == 1
local conversations, messages, reactions = 0, 0, 0
local i, n = 4, #ARGV
while i <= n do
  local op, conv = ARGV[i], ARGV[i + 1]
  if op == 'c' then
    local fields, entries = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    if saving and redis.call('SADD', G .. 'z', conv) == 1 then
      for _, kind in ipairs({'c:', 't:', 'r:'}) do
        redis.call('COPY', G .. kind .. conv, G .. 'z' .. kind .. conv)
      end
    end
    i = i + 4
    if fields > 0 then redis.call('HSET', G .. 'c:' .. conv, unpack(ARGV, i, i + fields - 1)) end
    i = i + fields
    if entries > 0 then
      local tail = G .. 't:' .. conv
      local length = redis.call('RPUSH', tail, unpack(ARGV, i, i + entries - 1))
      messages = messages + math.min(length, ${TAIL}) - math.min(length - entries, ${TAIL})
      if length >= ${TAIL} + ${SLACK} then redis.call('LTRIM', tail, -${TAIL}, -1) end
    end
    i = i + entries
  elseif op == 'e' then
    local tail = G .. 't:' .. conv
    local index = redis.call('LPOS', tail, ARGV[i + 2], 'RANK', -1)
    if index then redis.call('LSET', tail, index, ARGV[i + 3]) end
    i = i + 4
  elseif op == 'r' then
    if ARGV[i + 4] == '1' then
      reactions = reactions + redis.call('ZADD', G .. 'r:' .. conv, ARGV[i + 2], ARGV[i + 3])
    else
      reactions = reactions - redis.call('ZREM', G .. 'r:' .. conv, ARGV[i + 3])
    end
    i = i + 5
  elseif op == 'x' then
    reactions = reactions - redis.call('ZREMRANGEBYSCORE', G .. 'r:' .. conv, ARGV[i + 2], ARGV[i + 2])
    i = i + 3
  elseif op == 'k' then
    local first = redis.call('LINDEX', G .. 't:' .. conv, -${TAIL})
    if first then
      reactions = reactions - redis.call('ZREMRANGEBYSCORE', G .. 'r:' .. conv, '-inf', '(' .. seqOf(first))
    end
    i = i + 2
  elseif op == 'o' or op == 'q' then
    local users = tonumber(ARGV[i + 2])
    local key = G .. 'o:' .. conv
    for j = i + 3, i + 2 + users do
      if op == 'o' then redis.call('ZADD', key, 0, ARGV[j]) else redis.call('ZREM', key, ARGV[j]) end
    end
    i = i + 3 + users
  elseif op == 'u' then
    redis.call('HSET', G .. 'u:' .. conv, ARGV[i + 2], ARGV[i + 3])
    i = i + 4
  elseif op == 'b' then
    redis.call('UNLINK', G .. 'b:' .. conv .. ':' .. ARGV[i + 2], G .. 'l:' .. conv .. ':' .. ARGV[i + 2])
    i = i + 3
  elseif op == 'a' then
    conversations = conversations + redis.call('ZADD', G .. 'all', 0, conv)
    i = i + 2
  else
    return redis.error_reply('ERR unknown operation ' .. op)
  end
end
local counts = G .. 'n'
if conversations ~= 0 then redis.call('HINCRBY', counts, 'conversations', conversations) end
if ARGV[3] ~= '0' then redis.call('HINCRBY', counts, 'members', ARGV[3]) end
if messages ~= 0 then redis.call('HINCRBY', counts, 'messages', messages) end
if reactions ~= 0 then redis.call('HINCRBY', counts, 'reactions', reactions) end
redis.call('SET', KEYS[1], next)
return 'ok'
`

/**
 * What applying needs to know. ARGV: the expected pointer, then for each conversation: itself, how many users, how many of these (the first) are removed, how many
 * seqs, the seq after which the tail is wanted or nothing, users, seqs. Answers the pointer alone when it is another; else for each conversation its fields and
 * those users', the messages with those seqs, the tail, the index of the tail's first entry, and all fields when one of the removed is an admin.
 */
export const FETCH = `${NAMES}${FIND}${HMGET}
if now ~= ARGV[1] then return now end
local out, i = {}, 2
while i <= #ARGV do
  local conv, users, removed = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local seqs, after = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local c, t = G .. 'c:' .. conv, G .. 't:' .. conv
  local asked = {'', 't'}
  for j = i + 5, i + 4 + users do asked[#asked + 1] = ':' .. ARGV[j] end
  local fields = hmget(c, asked)
  local messages, tail, index, all = {}, {}, 0, {}
  i = i + 5 + users
  if fields[1] then
    for j = 3, 2 + removed do
      if fields[j] and string.sub(fields[j], 1, 1) == '1' then
        all = redis.call('HGETALL', c)
        break
      end
    end
    local length = redis.call('LLEN', t)
    for j = i, i + seqs - 1 do
      local seq = tonumber(ARGV[j])
      local place = find(t, length, seq)
      local entry = place < length and redis.call('LINDEX', t, place)
      messages[#messages + 1] = entry and seqOf(entry) == seq and entry or ''
    end
    if after and tonumber(string.match(fields[1], '^%d+ %d+ %d+ (%d+)')) > after then
      index = find(t, length, after + 1)
      tail = redis.call('LRANGE', t, index, -1)
      index = index - firstOf(length)
    end
  end
  i = i + seqs
  out[#out + 1] = {fields, messages, tail, index, all}
end
return out
`

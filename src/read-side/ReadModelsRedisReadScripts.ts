/** What is read in Redis, each script at one moment of its partition. All answer the pointer first. */
import { NAMED_RECEIPTS_MAX } from "../domain/conversation.ts"
import { REACTIONS_BYTES } from "./paging.ts"
import { FIND, HMGET, NAMES } from "./ReadModelsRedisScripts.ts"

/** Reactions of one answer, or where that is reached of one message: more than fit into it, since each takes four bytes at least. */
const REACTIONS = REACTIONS_BYTES / 4

const REACTED = `
local function reactions(conv, entries)
  local key = G .. 'r:' .. conv
  if #entries == 0 then return {} end
  local found = redis.call('ZRANGEBYSCORE', key, seqOf(entries[1]), seqOf(entries[#entries]), 'LIMIT', 0, ${REACTIONS})
  if #found < ${REACTIONS} then return found end
  found = {}
  for _, entry in ipairs(entries) do
    local seq = seqOf(entry)
    local some = redis.call('ZRANGEBYSCORE', key, seq, seq, 'LIMIT', 0, ${REACTIONS})
    for _, one in ipairs(some) do found[#found + 1] = one end
  end
  return found
end
`

/** The members now, by id: those given (a direct conversation's), or the first of the list. */
const MEMBERS = `
local function members(conv, given, most)
  local users = given
  if #users == 0 then users = redis.call('ZRANGE', G .. 'o:' .. conv, 0, most - 1) end
  local fields = {}
  for i, user in ipairs(users) do fields[i] = ':' .. user end
  if #fields == 0 then return {}, {} end
  return users, hmget(G .. 'c:' .. conv, fields)
end
`

/** ARGV: conversation, user. Answers the conversation and the member. */
export const ACCESS = `${NAMES}
local found = redis.call('HMGET', G .. 'c:' .. ARGV[1], '', ':' .. ARGV[2])
return {now, found[1], found[2]}
`

/**
 * ARGV: conversation, the seq below which and how many older messages, the seq above which and how many newer ones (0: none), users of a direct conversation.
 * Answers the conversation, how many messages its tail has, the first of them, those of the answer that are older and newer (in seq order), their reactions, and in
 * conversations of up to 50 the members.
 */
export const PAGE = `${NAMES}${FIND}${HMGET}${REACTED}${MEMBERS}
local conv = ARGV[1]
local row = redis.call('HGET', G .. 'c:' .. conv, '')
if not row then return {now} end
local t = G .. 't:' .. conv
local length = redis.call('LLEN', t)
local first = firstOf(length)
local older, newer = {}, {}
local before, olderLimit = tonumber(ARGV[2]), tonumber(ARGV[3])
local after, newerLimit = tonumber(ARGV[4]), tonumber(ARGV[5])
if olderLimit > 0 then
  local last = tonumber(string.match(row, '^%d+ %d+ %d+ (%d+)'))
  local finish = before > last and length or find(t, length, before)
  if finish > first then older = redis.call('LRANGE', t, math.max(first, finish - olderLimit), finish - 1) end
end
if newerLimit > 0 then
  local start = find(t, length, after + 1)
  newer = redis.call('LRANGE', t, start, start + newerLimit - 1)
end
local reacted = {}
if string.sub(row, -1) == '1' then
  local entries = {}
  for _, entry in ipairs(older) do entries[#entries + 1] = entry end
  for _, entry in ipairs(newer) do entries[#entries + 1] = entry end
  reacted = reactions(conv, entries)
end
local users, rows = {}, {}
if tonumber(string.match(row, '(%d+) %d+$')) <= ${NAMED_RECEIPTS_MAX} then
  local given = {}
  for i = 6, #ARGV do given[#given + 1] = ARGV[i] end
  users, rows = members(conv, given, ${NAMED_RECEIPTS_MAX})
end
return {now, row, length - first, redis.call('LINDEX', t, first), older, newer, reacted, users, rows}
`

/** ARGV: conversation, the user after whom, how many, users of a direct conversation. Answers users and their rows. */
export const ROSTER = `${NAMES}${HMGET}${MEMBERS}
local conv = ARGV[1]
local users = {}
if #ARGV > 3 then
  for i = 4, #ARGV do users[#users + 1] = ARGV[i] end
else
  local from = ARGV[2] == '' and '-' or '(' .. ARGV[2]
  users = redis.call('ZRANGEBYLEX', G .. 'o:' .. conv, from, '+', 'LIMIT', 0, ARGV[3])
end
if #users == 0 then return {now, {}, {}} end
local _, rows = members(conv, users, 0)
return {now, users, rows}
`

/** ARGV: user. Answers their conversations now, each with its row. */
export const LIST = `${NAMES}
local own = redis.call('HGETALL', G .. 'u:' .. ARGV[1])
local found = {}
for i = 1, #own, 2 do
  if own[i + 1] == '0' then
    found[#found + 1] = own[i]
    found[#found + 1] = redis.call('HGET', G .. 'c:' .. own[i], '') or ''
  end
end
return {now, found}
`

/**
 * ARGV: user, conversations. Answers for each: the conversation, its title, the user's row, in groups of up to 50 the members, the newest message and its
 * reactions.
 */
export const ITEMS = `${NAMES}${FIND}${REACTED}
local found = {}
for i = 2, #ARGV do
  local conv = ARGV[i]
  local fields = redis.call('HMGET', G .. 'c:' .. conv, '', 't', ':' .. ARGV[1])
  local row = fields[1]
  if row then
    local users, reacted = {}, {}
    if string.byte(conv) ~= ${"d".charCodeAt(0)} and tonumber(string.match(row, '(%d+) %d+$')) <= ${NAMED_RECEIPTS_MAX} then
      users = redis.call('ZRANGE', G .. 'o:' .. conv, 0, ${NAMED_RECEIPTS_MAX - 1})
    end
    local last = redis.call('LINDEX', G .. 't:' .. conv, -1)
    if last and string.sub(row, -1) == '1' then reacted = reactions(conv, {last}) end
    found[#found + 1] = {row, fields[2], fields[3], users, last, reacted}
  else
    found[#found + 1] = {}
  end
end
return {now, found}
`

/** ARGV: users, each with a position. Answers for each the conversations in which something happened for them past it: conversation, removal, row. */
export const INBOX = `${NAMES}
local all = {}
for u = 1, #ARGV, 2 do
  local own = redis.call('HGETALL', G .. 'u:' .. ARGV[u])
  local since = tonumber(ARGV[u + 1])
  local found = {}
  for i = 1, #own, 2 do
    local left = tonumber(own[i + 1])
    if left == 0 or left > since then
      local row = redis.call('HGET', G .. 'c:' .. own[i], '')
      if row and (left > 0 or tonumber(string.match(row, '^%d+')) > since) then
        found[#found + 1] = own[i]
        found[#found + 1] = own[i + 1]
        found[#found + 1] = row
      end
    end
  end
  all[#all + 1] = found
end
return {now, all}
`

/**
 * Blocks of older messages. ARGV: conversation, a token, milliseconds, then for each block its number and the seq up to which it is wanted. Answers for each what is
 * cached; `+` when it is not, and who asks has the lease to fill it; `-` when another has.
 */
export const BLOCKS = `${NAMES}
local conv, token, lease = ARGV[1], ARGV[2], ARGV[3]
local found = {}
for i = 4, #ARGV, 2 do
  local place = conv .. ':' .. ARGV[i]
  local block = redis.call('GET', G .. 'b:' .. place)
  if block and tonumber(string.match(block, '^%d+')) >= tonumber(ARGV[i + 1]) then
    found[#found + 1] = block
  elseif now ~= '' and redis.call('SET', G .. 'l:' .. place, token, 'NX', 'PX', lease) then
    found[#found + 1] = '+'
  else
    found[#found + 1] = '-'
  end
end
return {now, found}
`

/**
 * Fills blocks. ARGV: conversation, the token, milliseconds that they are good for, how many blocks the partition may have, then for each block its number and what it
 * holds. One of which the lease is gone is left out: a message in it was amended since, or everything was emptied. Answers how many were filled.
 */
export const FILL = `${NAMES}
local conv, token, keep, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local filled = 0
for i = 5, #ARGV, 2 do
  local place = conv .. ':' .. ARGV[i]
  if now ~= '' and redis.call('GET', G .. 'l:' .. place) == token then
    if ARGV[i + 1] ~= '' then
      redis.call('SET', G .. 'b:' .. place, ARGV[i + 1], 'PX', keep)
      if redis.call('LPUSH', G .. 'bx', place) > most then
        redis.call('UNLINK', G .. 'b:' .. redis.call('RPOP', G .. 'bx'))
      end
      filled = filled + 1
    end
    redis.call('DEL', G .. 'l:' .. place)
  end
end
return {now, filled}
`

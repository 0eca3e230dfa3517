"""The Lua scripts that run inside Valkey or Redis. Each touches the keys of one segment alone, or the register alone,
so that it stays in one slot of a cluster.

A segment is four keys:

    order   sorted set of the members' positions, all with score 0, so in byte order (see `domain.ranks`)
    held    hash: user id -> "version:position"; an empty position says that the user left with this version.
            Nobody's id is empty: the empty field says how many members `order` has; and before it, while the segment
            lacks something, by which rebuild it is being filled ("" for none): "rebuild/number"
    scores  sorted set of the distinct scores, as in positions; DENSE boards only
    counts  hash: distinct score -> how many members have it; DENSE boards only

Each script looks first whether the keys still belong together, and says what it found in its first number. Where a
key is gone, be it by an eviction or by somebody's hand, it changes nothing. A segment without `held` may also be one
that never was: that is not for a script to know (`projection.REGISTRY`).
"""

from typing import Final

WHOLE: Final = 0
"""The keys belong together."""

FILLING: Final = 1
"""So they do, but members may be missing: a rebuild fills the segment, or has to."""

ABSENT: Final = 2
"""There is no `held`."""

BROKEN: Final = 3
"""Another key, or a part of one, is gone."""

AS_NEW: Final = "0"
"""How to make a segment that never was: without members, and whole."""

AS_LOST: Final = "/0"
"""How to make one that is gone: still to be filled, by nobody yet."""

_STATE: Final = """
local function look(dense)
  local kept = redis.call('HGET', KEYS[2], '')
  if not kept then return 2, 0 end
  local state, size, by = 0, tonumber(kept), ''
  if not size then
    state = 1
    by, size = string.match(kept, '^(.*/)(%d+)$')
    size = tonumber(size)
  end
  if redis.call('ZCARD', KEYS[1]) ~= size then return 3, 0 end
  if dense then
    local distinct = redis.call('ZCARD', KEYS[3])
    if distinct ~= redis.call('HLEN', KEYS[4]) or (size > 0) ~= (distinct > 0) then return 3, 0 end
  end
  return state, size, by
end
"""

_PLACE_OF: Final = """
local function place_of(position)
  if position == '' then return 0, 0 end
  local ordinal = redis.call('ZLEXCOUNT', KEYS[1], '-', '(' .. position) + 1
  if ARGV[1] == 'ordinal' then return ordinal, ordinal end
  local among = KEYS[1]
  if ARGV[1] == 'dense' then among = KEYS[3] end
  return ordinal, redis.call('ZLEXCOUNT', among, '-', '(' .. string.sub(position, 1, 16)) + 1
end
"""

# ARGV: mode, limit, how to make the segment where there is none ('' for not at all), and in one JSON text for each
# move: user id, version, position before, position after ('' for none). Answers with one text of numbers, for clients
# take long to write and to read many small things: the state, and where nothing is gone, for each move ordinal and rank
# before, ordinal and rank after (0 for none), member count. With a limit, one more answer for each move follows: the
# position of the member on the last ranked place ('' for none).
#
# Places are counted with the user taken out, so they are those of the positions that were asked for, also when
# the set holds something newer of the user or the move comes a second time. In the usual case the set holds what the
# move goes out from: while a position is in the set its place is what the server has, and nothing is counted.
PLACE: Final = (
    """
local order, held, scores, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dense, limit = ARGV[1] == 'dense', tonumber(ARGV[2])
"""
    + _STATE
    + _PLACE_OF
    + """
local state, size, by = look(dense)
if state == 2 and ARGV[3] ~= '' then
  redis.call('DEL', order, scores, counts)
  redis.call('HSET', held, '', ARGV[3])
  state, size, by = look(dense)
end
if state > 1 then return {tostring(state)} end
local size_before = size
local function take(position)
  if position == '' then return end
  size = size - redis.call('ZREM', order, position)
  local score = string.sub(position, 1, 16)
  if dense and redis.call('HINCRBY', counts, score, -1) < 1 then
    redis.call('HDEL', counts, score)
    redis.call('ZREM', scores, score)
  end
end
local function put(position)
  if position == '' then return end
  size = size + redis.call('ZADD', order, 0, position)
  if dense then
    local score = string.sub(position, 1, 16)
    redis.call('HINCRBY', counts, score, 1)
    redis.call('ZADD', scores, 0, score)
  end
end
local ordinal, numbers, answer = ARGV[1] == 'ordinal', {state}, {''}
local moves = cjson.decode(ARGV[4])
for i = 1, #moves, 4 do
  local user, version, before, after = moves[i], moves[i + 1], moves[i + 2], moves[i + 3]
  local own_version, own = -1, ''
  local known = redis.call('HGET', held, user)
  if known then
    local colon = string.find(known, ':', 1, true)
    own_version, own = tonumber(string.sub(known, 1, colon - 1)), string.sub(known, colon + 1)
  end
  local is_newer = tonumber(version) > own_version
  local is_usual = ordinal and is_newer and own == before and own ~= '' and after ~= ''
  local index = is_usual and redis.call('ZRANK', order, own)
  local before_ordinal, before_rank, after_ordinal, after_rank
  if index then
    redis.call('ZREM', order, own)
    redis.call('ZADD', order, 0, after)
    redis.call('HSET', held, user, version .. ':' .. after)
    before_ordinal, after_ordinal = index + 1, redis.call('ZRANK', order, after) + 1
    before_rank, after_rank = before_ordinal, after_ordinal
  else
    take(own)
    before_ordinal, before_rank = place_of(before)
    after_ordinal, after_rank = place_of(after)
    if is_newer then
      redis.call('HSET', held, user, version .. ':' .. after)
      own = after
    end
    put(own)
  end
  local at = 5 * (i - 1) / 4 + 1
  numbers[at + 1], numbers[at + 2], numbers[at + 3] = before_ordinal, before_rank, after_ordinal
  numbers[at + 4], numbers[at + 5] = after_rank, size
  if limit > 0 then
    answer[#answer + 1] = redis.call('ZRANGE', order, limit - 1, limit - 1)[1] or ''
  end
end
if size ~= size_before then redis.call('HSET', held, '', by .. size) end
answer[1] = table.concat(numbers, ' ')
return answer
"""
)

# ARGV: mode, index of the first (from 0), how many, and a user id or ''. With a user, the members around them are
# meant: `how many` on each side. Answers with two texts, for the same reason: numbers, which are the state, and where
# nothing is gone, member count, ordinal and rank of the first (0 for none); and positions, with the character between
# them that no user id has.
PAGE: Final = (
    _STATE
    + _PLACE_OF
    + """
local state, size = look(ARGV[1] == 'dense')
local nobody = {state .. ' ' .. size .. ' 0 0', ''}
if state > 1 then return nobody end
local first, last = tonumber(ARGV[2]), tonumber(ARGV[2]) + tonumber(ARGV[3]) - 1
if ARGV[4] ~= '' then
  local known = redis.call('HGET', KEYS[2], ARGV[4])
  local position = known and string.sub(known, string.find(known, ':', 1, true) + 1) or ''
  if position == '' then return nobody end
  local index = redis.call('ZRANK', KEYS[1], position)
  first, last = math.max(0, index - tonumber(ARGV[3])), index + tonumber(ARGV[3])
end
local page = {}
if last >= first then page = redis.call('ZRANGE', KEYS[1], first, last) end
if not page[1] then return nobody end
local ordinal, rank = place_of(page[1])
return {table.concat({state, size, ordinal, rank}, ' '), table.concat(page, '\\0')}
"""
)

# ARGV: mode, then user ids. Answers in the same way: the state, and where nothing is gone, member count, and for each
# of them who is a member ordinal, rank, how many have a better rank; and positions.
MEMBERS: Final = (
    _STATE
    + _PLACE_OF
    + """
local state, size = look(ARGV[1] == 'dense')
local numbers, positions = {state, size}, {}
if state > 1 then return {table.concat(numbers, ' '), ''} end
for i = 2, #ARGV do
  local known = redis.call('HGET', KEYS[2], ARGV[i])
  local position = known and string.sub(known, string.find(known, ':', 1, true) + 1) or ''
  if position ~= '' then
    local ordinal, rank = place_of(position)
    local better = ordinal - 1
    if ARGV[1] ~= 'ordinal' then
      better = redis.call('ZLEXCOUNT', KEYS[1], '-', '(' .. string.sub(position, 1, 16))
    end
    for _, number in ipairs({ordinal, rank, better}) do numbers[#numbers + 1] = number end
    positions[#positions + 1] = position
  end
end
return {table.concat(numbers, ' '), table.concat(positions, '\\0')}
"""
)

# ARGV: the rebuild. A segment begins to be filled by it: empty, whatever there was.
BEGIN: Final = """
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return redis.call('HSET', KEYS[2], '', ARGV[1] .. '/0')
"""

# ARGV: mode, the rebuild, and in one JSON text of each user "version:position", or "version:", GONE and the user id.
# Takes them in where the rebuild has begun with the segment and nothing newer is known of the user. Answers the state:
# where another than this rebuild has made the segment since, nothing is changed, and the rebuild cannot finish it.
FILL: Final = (
    _STATE
    + """
local find, sub, byte = string.find, string.sub, string.byte
local dense = ARGV[1] == 'dense'
local state, size, by = look(dense)
if state ~= 1 or by ~= ARGV[2] .. '/' then return state end
local entries = cjson.decode(ARGV[3])
local users, ends = {}, {}
for i = 1, #entries do
  local colon = find(entries[i], ':', 1, true)
  ends[i], users[i] = colon, sub(entries[i], colon + 33)
end
local known = redis.call('HMGET', KEYS[2], unpack(users))
local held, members, gone, changes = {}, {}, {}, {}
local function count(position, change)
  local score = sub(position, 1, 16)
  changes[score] = (changes[score] or 0) + change
end
for i = 1, #entries do
  local entry, colon, is_newer = entries[i], ends[i], true
  if known[i] then
    local own_colon = find(known[i], ':', 1, true)
    is_newer = tonumber(sub(entry, 1, colon - 1)) > tonumber(sub(known[i], 1, own_colon - 1))
    local own = sub(known[i], own_colon + 1)
    if is_newer and own ~= '' then
      gone[#gone + 1] = own
      if dense then count(own, -1) end
    end
  end
  if is_newer then
    local h, m = #held, #members
    if byte(entry, colon + 1) == 45 then
      held[h + 1], held[h + 2] = users[i], sub(entry, 1, colon)
    else
      local position = sub(entry, colon + 1)
      held[h + 1], held[h + 2] = users[i], entry
      members[m + 1], members[m + 2] = 0, position
      if dense then count(position, 1) end
    end
  end
end
if gone[1] then size = size - redis.call('ZREM', KEYS[1], unpack(gone)) end
if members[1] then size = size + redis.call('ZADD', KEYS[1], unpack(members)) end
if held[1] then redis.call('HSET', KEYS[2], unpack(held)) end
for score, change in pairs(changes) do
  if change ~= 0 then
    if redis.call('HINCRBY', KEYS[4], score, change) < 1 then
      redis.call('HDEL', KEYS[4], score)
      redis.call('ZREM', KEYS[3], score)
    else
      redis.call('ZADD', KEYS[3], 0, score)
    end
  end
end
redis.call('HSET', KEYS[2], '', by .. size)
return state
"""
)

# ARGV: mode, the rebuild. A segment is filled, unless it was lost since this rebuild began with it. Answers the state.
FINISH: Final = (
    _STATE
    + """
local state, size, by = look(ARGV[1] == 'dense')
if state == 1 and by == ARGV[2] .. '/' then
  redis.call('HSET', KEYS[2], '', size)
  state = 0
end
return state
"""
)

# ARGV: the marker that is expected there ('' for none), and the one that takes its place. Touches the register alone.
# Answers whether it was as expected: where the register was lost meanwhile, what is in the sets is nobody's word.
MARK: Final = """
if (redis.call('HGET', KEYS[1], '') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], '', ARGV[2])
return 1
"""

# ARGV: a user id. Nothing of the user is left in the segment, no version either: who comes back begins anew. Where a
# key is gone nothing is changed: the segment is filled anew. Answers whether there was something.
FORGET: Final = (
    _STATE
    + """
local dense = redis.call('EXISTS', KEYS[3]) == 1
local state, size, by = look(dense)
if state > 1 then return 0 end
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known then return 0 end
local position = string.sub(known, string.find(known, ':', 1, true) + 1)
if position ~= '' then
  size = size - redis.call('ZREM', KEYS[1], position)
  local score = string.sub(position, 1, 16)
  if dense and redis.call('HINCRBY', KEYS[4], score, -1) < 1 then
    redis.call('HDEL', KEYS[4], score)
    redis.call('ZREM', KEYS[3], score)
  end
  redis.call('HSET', KEYS[2], '', by .. size)
end
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
"""
)

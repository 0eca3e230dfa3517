"""The Lua scripts that run inside Valkey or Redis. Each touches the keys of one segment alone, so that it stays
in one slot of a cluster.

A segment is four keys:

    order   sorted set of the members' positions, all with score 0, so in byte order (see `domain.ranks`)
    held    hash: user id -> "version:position"; an empty position says that the user left with this version
    scores  sorted set of the distinct scores, as in positions; DENSE boards only
    counts  hash: distinct score -> how many members have it; DENSE boards only
"""

from typing import Final

MARKER: Final = "laurel:projection"
"""The key that says that the sorted sets are complete, and since which rebuild."""

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

# ARGV: mode, limit, then for each move: user id, version, position before, position after ('' for none). Answers
# with one text of numbers, for clients take long to read many small answers: for each move ordinal and rank before,
# ordinal and rank after (0 for none), member count. With a limit, one more answer for each move follows: the
# position of the member on the last ranked place ('' for none).
#
# Places are counted with the user taken out, so they are those of the positions that were asked for, also when
# the set holds something newer of the user or the move comes a second time.
PLACE: Final = (
    """
local order, held, scores, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dense, limit = ARGV[1] == 'dense', tonumber(ARGV[2])
"""
    + _PLACE_OF
    + """
local function take(position)
  if position == '' then return end
  redis.call('ZREM', order, position)
  local score = string.sub(position, 1, 16)
  if dense and redis.call('HINCRBY', counts, score, -1) < 1 then
    redis.call('HDEL', counts, score)
    redis.call('ZREM', scores, score)
  end
end
local function put(position)
  if position == '' then return end
  redis.call('ZADD', order, 0, position)
  if dense then
    local score = string.sub(position, 1, 16)
    redis.call('HINCRBY', counts, score, 1)
    redis.call('ZADD', scores, 0, score)
  end
end
local numbers, answer = {}, {''}
for i = 3, #ARGV, 4 do
  local user, version, before, after = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local own_version, own = -1, ''
  local known = redis.call('HGET', held, user)
  if known then
    local colon = string.find(known, ':', 1, true)
    own_version, own = tonumber(string.sub(known, 1, colon - 1)), string.sub(known, colon + 1)
  end
  take(own)
  local before_ordinal, before_rank = place_of(before)
  local after_ordinal, after_rank = place_of(after)
  if tonumber(version) > own_version then
    redis.call('HSET', held, user, version .. ':' .. after)
    own = after
  end
  put(own)
  numbers[#numbers + 1] = before_ordinal
  numbers[#numbers + 1] = before_rank
  numbers[#numbers + 1] = after_ordinal
  numbers[#numbers + 1] = after_rank
  numbers[#numbers + 1] = redis.call('ZCARD', order)
  if limit > 0 then
    answer[#answer + 1] = redis.call('ZRANGE', order, limit - 1, limit - 1)[1] or ''
  end
end
answer[1] = table.concat(numbers, ' ')
return answer
"""
)

# ARGV: mode, index of the first (from 0), how many, and a user id or ''. With a user, the members around them are
# meant: `how many` on each side. Answers: member count, ordinal and rank of the first (0 for none), positions.
PAGE: Final = (
    _PLACE_OF
    + """
local first, last = tonumber(ARGV[2]), tonumber(ARGV[2]) + tonumber(ARGV[3]) - 1
if ARGV[4] ~= '' then
  local known = redis.call('HGET', KEYS[2], ARGV[4])
  local position = known and string.sub(known, string.find(known, ':', 1, true) + 1) or ''
  if position == '' then return {redis.call('ZCARD', KEYS[1]), 0, 0} end
  local index = redis.call('ZRANK', KEYS[1], position)
  first, last = math.max(0, index - tonumber(ARGV[3])), index + tonumber(ARGV[3])
end
local answer = {redis.call('ZCARD', KEYS[1]), 0, 0}
local page = {}
if last >= first then page = redis.call('ZRANGE', KEYS[1], first, last) end
if page[1] then answer[2], answer[3] = place_of(page[1]) end
for _, position in ipairs(page) do answer[#answer + 1] = position end
return answer
"""
)

-- Takes users for one request and records exactly what is sent. Repeating it with the same
-- claim id returns the same claim.
-- ARGV: 3 claim id, 4 lane 'r'|'b', 5 most users, 6 most bytes, 7 lease ms, 8 gap ms, 9 token.
-- Returns {packed claim | false, users still to be taken}. A claim:
-- {{user, {{id, value, T, AM, AS, PL, open 0|1, E}, ...}}, ...}.
local id, lane = ARGV[3], ARGV[4]
local most, most_bytes, gap = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[8])
local ready = P .. LISTS[lane].ready
local function left()
  return lane == 'r' and call('ZCARD', ready) or call('ZCOUNT', ready, '-inf', now)
end
local before = call('HGET', P .. 'claim', id)
if before then return {before, left()} end

-- Crumbs are the gatherer's alone, and only when one of them is due.
local takeable = left()
if takeable < most then
  local gatherer = call('GET', P .. 'gather:' .. lane)
  local first = call('ZRANGE', ready, 0, 0, 'WITHSCORES')
  if (gatherer and gatherer ~= ARGV[9]) or not first[2] or tonumber(first[2]) > now then
    return {false, takeable}
  end
end

-- The values of this user that may go now: realtime ones, and batched ones whose boundary has
-- passed; none before its gap or hold is over.
local function sendable(attributes)
  local values, bytes = {}, 0
  for name, x in pairs(attributes) do
    local r = rule(name)
    if r[4] == 1 and differs(name, x) then
      local value = wire(name, x[V])
      if not_before(x, value, gap) <= now and (r[1] == 'r' or due_of(name, x) <= now) then
        values[#values + 1] = {name, value, x[T], x[AM], x[AS], x[PL],
          has(x[F], OPEN) and 1 or 0, x[E]}
        bytes = bytes + #value + 80
      end
    end
  end
  return values, bytes
end

-- All are read before anything is written: what cannot be read changes nothing.
call('HLEN', P .. 'owned')
call('ZCARD', P .. 'claims')
local taken, owned, unlisted, bytes, tried = {}, {}, {}, 0, 0
while #taken < most and bytes < most_bytes and tried < most * 8 do
  local found = call('ZRANGEBYSCORE', ready, '-inf', lane == 'r' and '+inf' or now,
    'LIMIT', #unlisted, most - #taken)
  if #found == 0 then break end
  for _, user in ipairs(found) do
    tried = tried + 1
    local attributes = load(user)
    local values, size = sendable(attributes)
    if #values > 0 and #taken > 0 and bytes + size > most_bytes then
      bytes = most_bytes
      break
    end
    unlisted[#unlisted + 1] = user
    if #values == 0 then
      -- Listed without a value that may go: only a rule that changed leads here.
      local wait = waits(attributes, gap)
      if lane == 'r' or (wait['bt:ready'] or 0) <= now then wait[LISTS[lane].ready] = nil end
      schedule(user, wait, false)
    else
      bytes = bytes + size + #user + 20
      local versions = {}
      for n, value in ipairs(values) do
        versions[n] = {value[1], value[3], value[4], value[5], value[6]}
      end
      owned[#owned + 1] = user
      owned[#owned + 1] = cmsgpack.pack({id, versions})
      taken[#taken + 1] = {user, values}
    end
  end
end
for _, name in ipairs(LIST_NAMES) do in_pieces('ZREM', name, unlisted) end
write_lists()
if call('GET', P .. 'gather:' .. lane) == ARGV[9] then call('DEL', P .. 'gather:' .. lane) end
if #taken == 0 then return {false, left()} end
in_pieces('HSET', 'owned', owned)
local packed = cmsgpack.pack(taken)
call('HSET', P .. 'claim', id, packed)
call('ZADD', P .. 'claims', now + tonumber(ARGV[7]), id)
return {packed, left()}

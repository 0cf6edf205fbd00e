-- needs: state, rules, due, lanes, lists, writes, budget
-- Takes users for one request and records exactly what is sent. Repeating it with the same
-- claim id returns the same claim.
-- ARGV: 3 claim id, 4 lane 'r'|'b', 5 most users, 6 most bytes, 7 lease ms, 8 gap ms, 9 token,
-- 10 data points per day or '', 11 the same for each attribute, 12 version of the rules.
-- Returns {packed claim | false, users still to be taken}, or {false, -1} and nothing is done if the
-- rules have another version. A claim:
-- {{user, {{id, value, T, AM, AS, PL, open 0|1, E}, ...}}, ...}.
if is_stale(ARGV[12]) then return {false, -1} end
local id, lane = ARGV[3], ARGV[4]
local most, most_bytes, gap = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[8])
local ready = P .. LISTS[lane].ready
per_day, per_audience = tonumber(ARGV[10]), tonumber(ARGV[11])
local is_bounded = per_day ~= nil or per_audience ~= nil
local function left()
  return lane == 'r' and call('ZCARD', ready) or call('ZCOUNT', ready, '-inf', now)
end
local before = call('HGET', P .. 'claim', id)
if before then return {before, left()} end

if call('EXISTS', P .. 'quiet') == 1 then return {false, 0} end

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
-- passed; none before its gap or hold is over, and none without a data point left for it.
local newly_over = {}
local function sendable(attributes)
  local values, bytes = {}, 0
  for name, x in pairs(attributes) do
    local r = rule(name)
    local value = r[4] == 1 and lacking(name, x)
    if value then
      local may_go = not_before(x, value, gap) <= now and (r[1] == 'r' or due_of(name, x) <= now)
      if may_go and is_bounded then
        may_go = room(name) > 0
        if may_go then
          spend(name, 1)
        elseif not overs()[name] then
          over[name] = true
          newly_over[#newly_over + 1] = name
        end
      end
      if may_go then
        values[#values + 1] = {name, value, x[T], x[AM], x[AS], x[PL],
          has(x[F], OPEN) and 1 or 0, x[E]}
        bytes = bytes + #value + 80
      end
    end
  end
  return values, bytes
end

-- Lets go who waits for room in the budget that there is again, whoever waits longest first, so that
-- the next request is full. The tick lets the first of them go, see free.lua.
local function refill()
  local wanted, waiting = 2 * most - left(), {}
  for name in pairs(overs()) do
    if wanted > 0 and rule(name)[1] == lane and room(name) > 0 then
      local first = call('ZRANGEBYSCORE', P .. 'over:' .. name, '-inf', now, 'WITHSCORES',
        'LIMIT', 0, 1)
      if first[2] then waiting[#waiting + 1] = {tonumber(first[2]), name} end
    end
  end
  table.sort(waiting, function(a, b) return a[1] < b[1] end)
  for _, item in ipairs(waiting) do
    if wanted < 1 then break end
    wanted = wanted - let_go(item[2], math.min(wanted, room(item[2]), 1000), now)
    forget_if_empty(item[2])
  end
end

-- All are read before anything is written: what cannot be read changes nothing.
call('HLEN', P .. 'owned')
call('ZCARD', P .. 'claims')
overs()
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
      for _, value in ipairs(values) do spend(value[1], -1) end
      break
    end
    unlisted[#unlisted + 1] = user
    if #values == 0 then
      -- Listed without a value that may go: a rule that changed leads here, or a spent budget.
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
      owned[#owned + 1] = cmsgpack.pack({id, versions, now})
      taken[#taken + 1] = {user, values}
    end
  end
end
for _, name in ipairs(LIST_NAMES) do in_pieces('ZREM', name, unlisted) end
in_pieces('SADD', 'over', newly_over)
write_lists()
if call('GET', P .. 'gather:' .. lane) == ARGV[9] then call('DEL', P .. 'gather:' .. lane) end
if next(overs()) then refill() end
if #taken == 0 then return {false, left()} end
in_pieces('HSET', 'owned', owned)
local packed = cmsgpack.pack(taken)
call('HSET', P .. 'claim', id, packed)
call('ZADD', P .. 'claims', now + tonumber(ARGV[7]), id)
if is_bounded then
  local by = {}
  for _, user in ipairs(taken) do
    for _, value in ipairs(user[2]) do
      by[value[1]] = (by[value[1]] or 0) + 1
      by['*'] = (by['*'] or 0) + 1
    end
  end
  call('HSET', P .. 'flight', id, cmsgpack.pack(by))
end
return {packed, left()}

-- needs: rules, lanes, lists, points
-- What may still be sent of an attribute today, and who may go again because there is room. A claim
-- books what it sends in `flight` until it ends, so that what Braze acknowledges never goes over
-- the limit. Whoever asks sets the limits first; nil is none.
local per_day, per_audience = nil, nil
local booked, room_left = nil, {}

local function in_flight(id)
  if not booked then
    booked = {}
    local claims = call('ZRANGE', P .. 'claims', 0, -1)
    for from = 1, #claims, 1000 do
      local to = math.min(from + 999, #claims)
      for _, raw in ipairs(call('HMGET', P .. 'flight', unpack(claims, from, to))) do
        for name, by in pairs(raw and cmsgpack.unpack(raw) or {}) do
          booked[name] = (booked[name] or 0) + by
        end
      end
    end
  end
  return booked[id] or 0
end

local function left_of(id, limit)
  if not room_left[id] then room_left[id] = limit - spent(id) - in_flight(id) end
  return room_left[id]
end

local function room(id)
  local left = per_day and left_of('*', per_day) or math.huge
  if per_audience and left > 0 then left = math.min(left, left_of(id, per_audience)) end
  return left
end

local function spend(id, by)
  if per_day then room_left['*'] = left_of('*', per_day) - by end
  if per_audience then room_left[id] = left_of(id, per_audience) - by end
end

-- Lets at most `most` users of `over:<id>` go whose time comes until `latest`; returns how many.
-- One that a claim owns only leaves: settling schedules it.
local function let_go(id, most, latest)
  local list, lane = P .. 'over:' .. id, LISTS[rule(id)[1]]
  local found = call('ZRANGEBYSCORE', list, '-inf', latest, 'WITHSCORES', 'LIMIT', 0, most)
  local users = {}
  for i = 1, #found, 2 do users[#users + 1] = found[i] end
  if #users == 0 then return 0 end
  local owners = call('HMGET', P .. 'owned', unpack(users))
  for n, user in ipairs(users) do
    if not owners[n] then
      local at = tonumber(found[2 * n])
      local name = (at > now and rule(id)[1] == 'r') and lane.held or lane.ready
      call('ZADD', P .. name, 'LT', at, user)
    end
  end
  call('ZREM', list, unpack(users))
  return #users
end

-- An attribute that nobody waits for any more is no longer over.
local function forget_if_empty(id)
  if room(id) > 0 and call('EXISTS', P .. 'over:' .. id) == 0 then
    call('SREM', P .. 'over', id)
    over[id] = nil
  end
end

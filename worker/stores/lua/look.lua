-- needs: lanes
-- Says whether a lane has a request to fill, and appoints the one gatherer of crumbs.
-- ARGV: 3 lane 'r'|'b', 4 users in a full request, 5 token of the asker.
-- Returns {'full'|'due'|'wait'|'busy'|'empty'|'quiet', users that could be taken, ms to wait}.
-- Held users whose time has come are made ready here.
local lane, full, token = ARGV[3], tonumber(ARGV[4]), ARGV[5]
if call('EXISTS', P .. 'quiet') == 1 then
  if call('GET', P .. 'gather:' .. lane) == token then call('DEL', P .. 'gather:' .. lane) end
  return {'quiet', 0, 0}
end
local ready, held = P .. LISTS[lane].ready, P .. LISTS[lane].held
local free = call('ZRANGEBYSCORE', held, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 500)
for i = 1, #free, 2 do
  call('ZREM', held, free[i])
  call('ZADD', ready, 'LT', free[i + 1], free[i])
end
local takeable = lane == 'r' and call('ZCARD', ready) or call('ZCOUNT', ready, '-inf', now)
if takeable >= full then return {'full', takeable, 0} end
local first = call('ZRANGE', ready, 0, 0, 'WITHSCORES')
local next_held = call('ZRANGE', held, 0, 0, 'WITHSCORES')
local at = first[2] and tonumber(first[2])
if at == nil or (next_held[2] and tonumber(next_held[2]) < at) then
  at = next_held[2] and tonumber(next_held[2])
end
if at == nil then return {'empty', 0, 0} end
local gatherer = call('GET', P .. 'gather:' .. lane)
if gatherer and gatherer ~= token then return {'busy', takeable, 0} end
if at <= now then
  call('SET', P .. 'gather:' .. lane, token, 'PX', 3000)
  return {'due', takeable, 0}
end
call('SET', P .. 'gather:' .. lane, token, 'PX', math.min(at - now, 2000) + 1000)
return {'wait', takeable, at - now}

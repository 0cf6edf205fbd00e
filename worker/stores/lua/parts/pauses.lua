-- All workers wait until then; a longer wait that another request brought meanwhile stays.
local function pause_until(dest, at, why)
  if at > tonumber(redis.call('HGET', dest, 'until') or '0') then
    redis.call('HSET', dest, 'until', at, 'reason', why)
  end
end

-- All workers wait for a while; a longer wait that another request brought meanwhile stays.
-- KEYS: dest. ARGV: 1 now ms or '', 2 wait ms, 3 reason, 4 '1': then one probe at a time.
local call, dest = redis.call, KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local clock = call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end
local till = now + tonumber(ARGV[2])
if till > tonumber(call('HGET', dest, 'until') or '0') then
  call('HSET', dest, 'until', till, 'reason', ARGV[3])
end
if ARGV[4] == '1' then call('HSET', dest, 'width', 1, 'reason', ARGV[3]) end

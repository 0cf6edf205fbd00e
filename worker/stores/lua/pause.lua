-- needs: clock, pauses
-- All workers wait for a while; a longer wait that another request brought meanwhile stays.
-- KEYS: dest. ARGV: 1 now ms or '', 2 wait ms, 3 reason, 4 '1': then one probe at a time.
local call, dest = redis.call, KEYS[1]
pause_until(dest, moment(ARGV[1]) + tonumber(ARGV[2]), ARGV[3])
if ARGV[4] == '1' then call('HSET', dest, 'width', 1, 'reason', ARGV[3]) end

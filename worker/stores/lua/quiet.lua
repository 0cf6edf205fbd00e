-- Nobody claims in a partition for a while; a longer while that was set before stays.
-- KEYS: quiet. ARGV: 1 ms.
local ms = tonumber(ARGV[1])
if redis.call('PTTL', KEYS[1]) < ms then redis.call('SET', KEYS[1], '1', 'PX', ms) end

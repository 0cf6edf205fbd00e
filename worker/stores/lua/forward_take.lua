-- Takes users whose profiles Braze is to delete, for one request. A lease that runs out gives them
-- back: they are asked for again, which is harmless.
-- ARGV: 3 claim id, 4 most users, 5 lease ms. Returns {user, ...}.
local forward = P .. 'forward'
call('HLEN', P .. 'forwarding')
local users = call('ZRANGEBYSCORE', forward, '-inf', now, 'LIMIT', 0, tonumber(ARGV[4]))
for _, user in ipairs(users) do
  call('ZADD', forward, now + tonumber(ARGV[5]), user)
  call('HSET', P .. 'forwarding', user, ARGV[3])
end
return users

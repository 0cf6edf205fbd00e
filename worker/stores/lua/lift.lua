-- Lifts what keeps the destination from being sent to, and empties the valve.
-- KEYS: dest, valve. ARGV: 1 lift only this stop, or '' for whatever there is; 2 '1': the waits,
-- the narrowing and the smaller requests that Braze itself asked for, too; '0': a stop only.
-- Returns what was lifted, {name, value, ...}; empty if there was nothing, or another stop.
local call, dest = redis.call, KEYS[1]
local stop = call('HGET', dest, 'stop')
if ARGV[1] ~= '' and stop ~= ARGV[1] then return {} end
local names = {'stop', 'stopped_at', 'by', 'why', 'key', 'next_probe'}
if ARGV[2] == '1' then
  for _, name in ipairs({'until', 'reason', 'width', 'failures', 'failing_since', 'limited',
    'most_objects', 'most_bytes', 'capped_at'}) do
    names[#names + 1] = name
  end
elseif not stop then
  return {}
end
local lifted = {}
for i, value in ipairs(call('HMGET', dest, unpack(names))) do
  if value then
    lifted[#lifted + 1] = names[i]
    lifted[#lifted + 1] = value
  end
end
call('HDEL', dest, unpack(names))
call('DEL', KEYS[2])
return lifted

-- needs: clock
-- Changes the stored mode, if it is what the caller took it for. KEYS: mode.
-- ARGV: 1 now ms or '', 2 the mode it is, '' for none, 3 and on: field, value, ...; the value
-- '@now' is that time, an empty one removes the field. Returns 1, or 0: it was another.
if (redis.call('HGET', KEYS[1], 'mode') or '') ~= ARGV[2] then return 0 end
local now = moment(ARGV[1])
for i = 3, #ARGV, 2 do
  local value = ARGV[i + 1]
  if value == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], value == '@now' and string.format('%d', now) or value)
  end
end
return 1

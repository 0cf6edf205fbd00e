-- Publishes the registry: a rule for each declared key, and the lanes.
-- ARGV: 3 version, 4 packed lanes {linger, max_wait, every, offset}, 5 packed
-- {{key, packed rule}, ...}. Keys that are no longer declared fall back to undeclared.
local declared = {}
for _, item in ipairs(cmsgpack.unpack(ARGV[5])) do
  local id = call('HGET', P .. 'attrs', item[1])
  if not id then
    id = tostring(call('HINCRBY', P .. 'meta', 'next_attribute', 1))
    call('HSET', P .. 'attrs', item[1], id)
    call('HSET', P .. 'names', id, item[1])
  elseif not call('HGET', P .. 'rules', id) then
    call('HINCRBY', P .. 'meta', 'undeclared', -1)
  end
  call('HSET', P .. 'rules', id, item[2])
  declared[id] = true
end
for _, id in ipairs(call('HKEYS', P .. 'rules')) do
  if id ~= '*' and not declared[id] then
    call('HDEL', P .. 'rules', id)
    call('HINCRBY', P .. 'meta', 'undeclared', 1)
  end
end
call('HSET', P .. 'rules', '*', ARGV[4])
call('HSET', P .. 'meta', 'registry', ARGV[3])
return 1

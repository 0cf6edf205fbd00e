-- needs: rules
-- A key that is seen for the first time gets a small id, for ever; and its rule, if its name is
-- another key's.
local function new_id(key)
  local id = tostring(call('HINCRBY', P .. 'meta', 'next_attribute', 1))
  call('HSET', P .. 'attrs', key, id)
  call('HSET', P .. 'names', id, key)
  local shadow = call('HGET', P .. 'shadows', key)
  if shadow then
    rules[id] = nil
    call('HSET', P .. 'rules', id, shadow)
    call('HDEL', P .. 'shadows', key)
  end
  return id
end

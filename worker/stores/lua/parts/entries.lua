-- Entries of streams: of the inbox, and of the dead letters.

-- An inbox entry is worked off once: by whoever finds it pending and acknowledges it in one step.
local function is_pending(entry)
  return #call('XPENDING', P .. 'inbox', 'engine', entry, entry, 1) > 0
end
local function acknowledge(entry)
  call('XACK', P .. 'inbox', 'engine', entry)
  call('XDEL', P .. 'inbox', entry)
end

-- An entry of a stream as {field -> value}; nil if it is gone.
local function entry_of(name, id)
  local found = call('XRANGE', P .. name, id, id)
  if #found == 0 then return nil end
  local fields, flat = {}, found[1][2]
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- Many things are written by few calls: a call from Lua costs more than what it does, so lists and
-- counts are gathered first, and written once for each script.

-- Lua hands over a bounded number of arguments at once.
local function in_pieces(command, name, list)
  for from = 1, #list, 1000 do
    call(command, P .. name, unpack(list, from, math.min(from + 999, #list)))
  end
end

local function write_counts(key, counts)
  for name, by in pairs(counts) do
    if by ~= 0 then call('HINCRBY', P .. key, name, by) end
  end
end

-- needs: lists, points, budget
-- Lets users go whose attribute has data points left again: the day is over, the budget was raised,
-- or what was in flight was not taken. Once a second; the claims that follow let the others go.
-- ARGV: 3 data points per day or '', 4 the same for each attribute, 5 most users to let go at once.
-- Returns packed {{attribute, its points today, all points today, users waiting}, ...} of those
-- that are still over.
local most = tonumber(ARGV[5])
per_day, per_audience = tonumber(ARGV[3]), tonumber(ARGV[4])

-- What a claim booked goes with it; a worker without a budget may have ended it.
for _, claim in ipairs(call('HKEYS', P .. 'flight')) do
  if not call('ZSCORE', P .. 'claims', claim) then call('HDEL', P .. 'flight', claim) end
end

local found = {}
for id in pairs(overs()) do
  local left = room(id)
  if left > 0 and let_go(id, math.min(left, most), now) == 0 then
    -- Nobody is due: the others may as well wait where they would wait without a budget.
    let_go(id, 1000, '+inf')
  end
  forget_if_empty(id)
  if over[id] then
    found[#found + 1] = {call('HGET', P .. 'names', id) or id, spent(id), spent('*'),
      call('ZCARD', P .. 'over:' .. id)}
  end
end
return cmsgpack.pack(found)

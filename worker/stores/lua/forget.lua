-- needs: state, due, doubts, lists
-- Makes unknown what was acknowledged within a span of time: nothing of it was ever sent.
-- ARGV: 3 packed {user, ...}, 4 from ms, 5 until ms, 6 gap ms, 7 '1': only count.
-- Returns {users with such a value, such values}. Doing it again finds nothing.
--
-- The changes had their ends when they were acknowledged; what is sent now is counted as resent.
-- What no request of ours acknowledged (K 0) stays: an import said it, or Braze itself.
local from, last, gap = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local users, values = 0, 0
-- All users are read before the first is written.
local given, states = cmsgpack.unpack(ARGV[3]), {}
for i, user in ipairs(given) do states[i] = load(user) end
for i, user in ipairs(given) do
  local attributes, changed, found = states[i], {}, 0
  for id, x in pairs(attributes) do
    if x[A] ~= '' and x[K] > 0 and x[K] >= from and x[K] <= last then
      changed[id], found = x[D], found + 1
      forget_acknowledged(id, x, 0)
    end
  end
  if found > 0 then
    users, values = users + 1, values + found
    if ARGV[7] ~= '1' then
      if call('HEXISTS', P .. 'owned', user) == 0 then
        schedule(user, waits(attributes, gap), true)
      end
      save(user, attributes, changed)
    end
  end
end
if ARGV[7] ~= '1' then write_lists() end
return {users, values}

-- needs: state, rules, due, lists, points
-- One user's state, packed {{attribute, V, T, A, K, F, in flight, H, lane, due | -1}, ...}.
-- Reads only. ARGV: 3 user id, 4 gap ms.
local attributes = load(ARGV[3])
local owner = owner_of(ARGV[3])
local found = {}
for id, x in pairs(attributes) do
  local due = -1
  if rule(id)[4] == 1 and differs(id, x) then
    due = math.max(due_of(id, x), not_before(x, wire(id, x[V]), tonumber(ARGV[4])))
    -- Held for the budget of data points: until the next day, if nobody raises it.
    if overs()[id] then due = math.max(due, (math.floor(now / DAY) + 1) * DAY) end
  end
  found[#found + 1] = {call('HGET', P .. 'names', id) or id, x[V], x[T], x[A], x[K], x[F],
    claimed_rank(owner, id) and 1 or 0, x[H], rule(id)[1], due}
end
return cmsgpack.pack(found)

-- One user's state, as {{attribute, V, T, A, K, F, D, C, S, H, lane, due | -1}, ...} and the claim
-- that owns the user, or ''. Reads only. ARGV: 3 user id, 4 gap ms.
local attributes, owner = load(ARGV[3])
local found = {}
for id, x in pairs(attributes) do
  local due = -1
  if differs(id, x) then
    due = math.max(due_of(id, x), not_before(x, wire(id, x[V]), tonumber(ARGV[4])))
  end
  found[#found + 1] = {call('HGET', P .. 'names', id) or id, x[V], x[T], x[A], x[K], x[F], x[D],
    x[C], x[S], x[H], rule(id)[1], due}
end
return cmsgpack.pack({found, owner or '', now})

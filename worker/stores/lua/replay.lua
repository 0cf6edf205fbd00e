-- Replays one dead letter of a user: lifts the marks of refusal, so that the newest value is sent.
-- ARGV: 3 dead letter id, 4 gap ms. Returns values that are due again; -1 if the letter is gone.
local found = call('XRANGE', P .. 'dead', ARGV[3], ARGV[3])
if #found == 0 then return -1 end
local fields = {}
for i = 1, #found[1][2], 2 do fields[found[1][2][i]] = found[1][2][i + 1] end
if fields.kind ~= 'object' then return -1 end
local attributes, owner = load(fields.user)
local lifted, packed = 0, {}
for _, value in ipairs(cmsgpack.unpack(fields.values)) do
  local id = call('HGET', P .. 'attrs', value[1])
  local x = id and attributes[id]
  if x and has(x[F], REFUSED) then
    x[F] = clear(x[F], REFUSED)
    if differs(id, x) then
      x[D], x[C], x[E] = now, now, now
      lifted = lifted + 1
    end
    packed[#packed + 1] = id
    packed[#packed + 1] = pack_attribute(x)
  end
end
if #packed > 0 then
  call('HSET', P .. 'u:' .. fields.user, unpack(packed))
  if not owner then schedule(fields.user, attributes, tonumber(ARGV[4])) end
end
call('XDEL', P .. 'dead', ARGV[3])
count({replayed = 1})
return lifted

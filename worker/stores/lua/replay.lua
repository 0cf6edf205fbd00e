-- needs: entries, state, due, lists, writes, journal
-- Replays dead letters of users: lifts the marks of refusal, so that the newest value is sent. Where
-- a newer change has lifted a mark already there is nothing to lift: the letter only goes away.
-- The refused change had its end; what is sent now is counted as resent (rule 12).
-- ARGV: 3 packed dead letter ids, 4 gap ms, 5 journal bytes, 6 who replays; '' writes no journal.
-- Returns {letters replayed, values due again}; ids that are gone or no user's are passed over.
local letters, users, seen, gone, lifted = {}, {}, {}, {}, 0

local function lift(user, values)
  local attributes, changed = load(user), {}
  for _, value in ipairs(values) do
    local id = call('HGET', P .. 'attrs', value[1])
    local x = id and attributes[id]
    if x and has(x[F], REFUSED) then
      changed[id] = x[D]
      x[F] = clear(x[F], REFUSED)
      if differs(id, x) then
        x[D], x[C], x[E] = now, now, now
        lifted = lifted + 1
      end
    end
  end
  if not next(changed) then return end
  save(user, attributes, changed)
  if not seen[user] then
    seen[user] = true
    users[#users + 1] = user
  end
end

for _, id in ipairs(cmsgpack.unpack(ARGV[3])) do
  local letter = entry_of('dead', id)
  if letter and letter.kind == 'object' then
    lift(letter.user, cmsgpack.unpack(letter.values))
    letters[#letters + 1] = {id, letter.user}
    gone[#gone + 1] = id
  elseif letter and letter.kind == 'deletion' then
    -- A deletion that Braze refused is asked for again; the journal names nobody.
    call('ZADD', P .. 'forward', 'NX', now, letter.user)
    letters[#letters + 1] = {id, ''}
    gone[#gone + 1] = id
  end
end
if #letters == 0 then return {0, 0} end
-- Whom a claim owns is scheduled when that is settled.
for _, user in ipairs(users) do
  if call('HEXISTS', P .. 'owned', user) == 0 then
    schedule(user, waits(load(user), tonumber(ARGV[4])), true)
  end
end
write_lists()
in_pieces('XDEL', 'dead', gone)
write_counts('ledger', {replayed = #letters})
if ARGV[6] ~= '' then journal(tonumber(ARGV[5]), 'operator', {ARGV[6], 'replay', '', letters}) end
return {#letters, lifted}

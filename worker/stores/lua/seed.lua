-- needs: state, rules, due, lists, writes, journal
-- Takes over what was read from Braze, of values that nobody knew.
-- ARGV: 3 packed {{user, {{id, JSON text}, ...}}, ...}, 4 when the reading began, ms, 5 by how much
-- it may lag behind what was written, ms, 6 gap ms, 7 journal bytes, 8 packed counts of the run to
-- add to, 9 how long the run's counts live, ms. Returns {values that are known now, of them equal
-- to what is desired, of them to be sent, values left alone}.
-- With '' as 4 it only looks: 3 is packed {user, ...}, and it returns packed {{{user, {id, ...}},
-- ...}, users, values, ms}: who has values that may be read now; how many have values, and how
-- many values, that may be read later, the last of them at that time.
--
-- Left alone: what a request of ours settled, what is under way or refused, and a value of which
-- one that was sent with an unknown end may have landed later than the reading shows.
local given, lag = cmsgpack.unpack(ARGV[3]), tonumber(ARGV[5])

local function is_unknown(owner, id, x)
  return x[A] == '' and not has(x[F], REFUSED) and not claimed_rank(owner, id)
end
local function shows_from(x) return x[S] == '' and 0 or x[H] + lag end

if ARGV[4] == '' then
  local found, users, values, last = {}, 0, 0, 0
  for _, user in ipairs(given) do
    local owner, ids, later = owner_of(user), {}, 0
    for id, x in pairs(load(user)) do
      if rule(id)[4] == 1 and is_unknown(owner, id, x) then
        local from = shows_from(x)
        if from <= now then
          ids[#ids + 1] = id
        else
          later, last = later + 1, math.max(last, from)
        end
      end
    end
    if #ids > 0 then found[#found + 1] = {user, ids} end
    if later > 0 then users, values = users + 1, values + later end
  end
  return cmsgpack.pack({found, users, values, last})
end

local at, gap = tonumber(ARGV[4]), tonumber(ARGV[6])
local known, equal, left, unchanged, saved, facts = 0, 0, 0, 0, {}, {}

-- The end of an open change whose value Braze turns out to hold is `unchanged`.
local function take(id, x, text)
  x[A], x[K], x[S], x[H] = text, 0, '', 0
  known = known + 1
  if differs(id, x) then return end
  equal = equal + 1
  if has(x[F], OPEN) then
    unchanged = unchanged + 1
    saved[id] = (saved[id] or 0) + 1
    x[F] = clear(x[F], OPEN)
  end
  x[D], x[C], x[E] = 0, 0, 0
end

-- All users are read before the first is written.
local states, owners = {}, {}
for i, item in ipairs(given) do
  states[i], owners[i] = load(item[1]), owner_of(item[1])
end
for i, item in ipairs(given) do
  local user, attributes, owner = item[1], states[i], owners[i]
  local taken, changed = {}, {}
  local before = owner and {} or waits(attributes, gap)
  for _, value in ipairs(item[2]) do
    local id = value[1]
    local x = attributes[id]
    if x and is_unknown(owner, id, x) and shows_from(x) <= at then
      changed[id] = x[D]
      take(id, x, value[2])
      taken[#taken + 1] = value
    else
      left = left + 1
    end
  end
  if #taken > 0 then
    -- Whom a claim owns is scheduled when that is settled.
    if not owner then schedule(user, waits(attributes, gap), true, before) end
    save(user, attributes, changed)
    facts[#facts + 1] = {user, taken}
  end
end
write_lists()
write_counts('ledger', {unchanged = unchanged})
write_counts('saved', saved)
if #facts > 0 then journal(tonumber(ARGV[7]), 'seed', facts) end
write_counts('seed', {values = known, equal = equal, to_send = known - equal, left = left})
write_counts('seed', cmsgpack.unpack(ARGV[8]))
call('PEXPIRE', P .. 'seed', ARGV[9])
return {known, equal, known - equal, left}

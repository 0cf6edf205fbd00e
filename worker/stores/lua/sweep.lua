-- needs: state, due, doubts, lists, writes
-- One step of a sweep: does its work to some users, and notes how far it has come.
-- ARGV: 3 sweep, 4 the cursor and 5 the run that it must stand at, 6 the next cursor, '0' at the
-- end, 7 run of the server that gave it, 8 packed {user, ...}, 9 gap ms.
-- With '' as 3 it only counts: 4 is the packed sweep.
-- Returns {users changed, data points that it costs}; {} and nothing is done if it stands elsewhere.
--
-- Doing a user twice changes nothing, so a sweep may begin anew, and a user may come twice.
local gap, only_counts = tonumber(ARGV[9]), ARGV[3] == ''
local raw = only_counts and ARGV[4] or call('HGET', P .. 'sweeps', ARGV[3])
if not raw then return {} end
local sweep = cmsgpack.unpack(raw)
if only_counts then
  sweep.at = now
elseif sweep.done_at > 0 or sweep.cursor ~= ARGV[4] or sweep.run ~= ARGV[5] then
  return {}
end

local ends, saved, members = {superseded = 0, unchanged = 0}, {}, {}
local function end_unsent(id, how)
  ends[how] = ends[how] + 1
  saved[id] = (saved[id] or 0) + 1
end

-- Each is given an attribute and the rank that a claim sends of it now, and returns whether it
-- changed the attribute, and the data points that this costs. What a claim has under way is judged
-- when that is settled, see resynced_at().
local works = {}

function works.resync(id, x)
  if x[A] == '' or x[K] > sweep.at or x[K] < sweep.since then return false, 0 end
  forget_acknowledged(id, x, gap)
  return true, differs(id, x) and 1 or 0
end

-- Makes D say whether there is a difference, by the rules as they are.
local function agree(id, x)
  local is_due = differs(id, x)
  if is_due == (x[D] > 0) then return false, 0 end
  if is_due then
    x[D], x[C], x[E] = now, now, now
    return true, 1
  end
  if has(x[F], OPEN) then end_unsent(id, 'unchanged') end
  x[F], x[D], x[C], x[E] = clear(x[F], OPEN), 0, 0, 0
  return true, 0
end

function works.exit_changed(id, x, sent)
  if x[V] ~= 'false' or sent then return false, 0 end
  return agree(id, x)
end

-- The value outranks all that was said of the key, and nobody accepted it: it has no end.
function works.retire(id, x, sent)
  local is_outranked = x[V] ~= sweep.value
  if is_outranked then
    if has(x[F], OPEN) and not (sent and same_rank(sent, x)) then end_unsent(id, 'superseded') end
    if x[V] == 'true' then members[id] = (members[id] or 0) - 1 end
    x[V], x[T], x[AM], x[AS], x[PL] = sweep.value, math.max(x[T] + 1, sweep.at), sweep.at, 0, 0
    x[F] = 0
    if x[D] > 0 then x[C], x[E] = now, now end
  end
  if sent then return is_outranked, is_outranked and 1 or 0 end
  local is_changed, cost = agree(id, x)
  if is_outranked and x[D] > 0 then cost = 1 end
  return is_outranked or is_changed, cost
end

local every_over = {}
for id in pairs(overs()) do every_over['over:' .. id] = true end

-- All users are read before the first is written.
local users, states = cmsgpack.unpack(ARGV[8]), {}
local owners = #users > 0 and call('HMGET', P .. 'owned', unpack(users)) or {}
for i, user in ipairs(users) do states[i] = load(user) end
local changed, points = 0, 0
for i, user in ipairs(users) do
  local attributes, changes = states[i], {}
  local owner, work = owners[i] and cmsgpack.unpack(owners[i]), works[sweep.work]
  for id, x in pairs(work and attributes or {}) do
    if sweep.id == '*' or sweep.id == id then
      local since = x[D]
      local did, cost = work(id, x, claimed_rank(owner, id))
      if did then
        points = points + cost
        changes[id] = since
      end
    end
  end
  local is_listed_anew = not work and attributes[sweep.id] ~= nil and not owner
  if next(changes) or is_listed_anew then
    changed = changed + 1
    if not owner then schedule(user, waits(attributes, gap), true, every_over) end
  end
  if next(changes) and not only_counts then save(user, attributes, changes) end
end
if only_counts then return {changed, points} end
write_lists()
write_counts('ledger', ends)
write_counts('saved', saved)
write_counts('members', members)
-- Another run of the server has other cursors: the sweep began anew.
if sweep.run ~= ARGV[7] then sweep.seen = 0 end
sweep.cursor, sweep.run = ARGV[6], ARGV[7]
sweep.seen, sweep.changed = sweep.seen + #users, sweep.changed + changed
sweep.points = sweep.points + points
if ARGV[6] == '0' then sweep.done_at = now end
call('HSET', P .. 'sweeps', ARGV[3], cmsgpack.pack(sweep))
return {changed, points}

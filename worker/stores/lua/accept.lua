-- Folds one inbox entry into the desired state, schedules its users, then acknowledges it.
-- ARGV: 3 entry id, 4 entry ms, 5 packed {names, {{user, {{name index, value, T, AM, AS, PL,
-- membership 0|1}, ...}}, ...}}, 6 gap ms, 7 journal bytes, 8 undeclared limit.
-- Returns {1, opened, superseded, unchanged, dead, realtime users ready, gatherer 0|1}, or {0} if
-- the entry is no longer pending (somebody applied it).
--
-- Everything is read and checked before the first write, so that a wrong type changes nothing.
-- If a write fails all the same, the users done so far are noted under `torn` and passed over
-- when the entry is delivered again: each change is counted once.
local entry = ARGV[3]
if #call('XPENDING', P .. 'inbox', 'engine', entry, entry, 1) == 0 then return {0} end
local entry_ms, gap = tonumber(ARGV[4]), tonumber(ARGV[6])
local envelope = cmsgpack.unpack(ARGV[5])
local names, users = envelope[1], envelope[2]

local function must_be(name, kind)
  local found = call('TYPE', P .. name).ok
  if found ~= kind and found ~= 'none' then
    error({err = 'ERR key ' .. P .. name .. ' is a ' .. found .. ', not a ' .. kind})
  end
end
for _, name in ipairs({'ledger', 'members', 'attrs', 'names', 'meta', 'rules', 'torn'}) do
  must_be(name, 'hash')
end
for _, name in ipairs({'rt:ready', 'rt:held', 'bt:ready', 'bt:held'}) do must_be(name, 'zset') end
for _, name in ipairs({'journal', 'dead'}) do must_be(name, 'stream') end
must_be('journal:size', 'string')

local states, owners = {}, {}
for i, item in ipairs(users) do states[i], owners[i] = load(item[1]) end
local done = tonumber(call('HGET', P .. 'torn', entry) or '0')

-- Names become small ids; beyond the limit an undeclared name has none.
local ids = {}
for i, name in ipairs(names) do
  local id = call('HGET', P .. 'attrs', name)
  if not id and tonumber(call('HGET', P .. 'meta', 'undeclared') or '0') < tonumber(ARGV[8]) then
    id = tostring(call('HINCRBY', P .. 'meta', 'next_attribute', 1))
    call('HINCRBY', P .. 'meta', 'undeclared', 1)
    call('HSET', P .. 'attrs', name, id)
    call('HSET', P .. 'names', id, name)
  end
  ids[i] = id or false
end

local function outranks(ch, x)
  for i = T, PL do
    local a, b = ch[i + 1], x[i]
    if a ~= b then return a > b end
  end
  return nil
end

-- Folds one change into the user's state; returns how it ended, 'o' if it is open.
local function fold(attributes, touched, members, ch)
  local id = ids[ch[1]]
  if not id then return 'x' end
  local x = attributes[id]
  if x then
    local higher = outranks(ch, x)
    if higher == nil then return 'u' end
    if not higher then return 's' end
  end
  local replaced = false
  local before = x and x[V]
  if not x then
    x = {'', 0, 0, 0, 0, '', 0, 0, 0, 0, 0, '', 0}
    attributes[id] = x
  elseif has(x[F], OPEN) and not has(x[F], CURRENT) then
    replaced = true
  end
  local refused = has(x[F], REFUSED)
  for i = V, PL do x[i] = ch[i + 1] end
  x[C], x[E], x[F] = now, entry_ms, clear(clear(clear(x[F], REFUSED), CURRENT), OPEN)
  touched[id] = true
  if ch[7] == 1 then
    local gained = (x[V] == 'true' and 1 or 0) - (before == 'true' and 1 or 0)
    if gained ~= 0 then members[id] = (members[id] or 0) + gained end
  end
  if has(x[F], CLAIMED) or differs(id, x) then
    x[F] = set(x[F], OPEN)
    if x[D] == 0 or refused then x[D] = now end
    return 'o', replaced
  end
  x[D] = 0
  return 'u', replaced
end

local total = {o = 0, s = 0, u = 0, x = 0}
local facts = {}
local function apply(i)
  local user, attributes = users[i][1], states[i]
  local touched, members, ends, outcome = {}, {}, {o = 0, s = 0, u = 0, x = 0}, {}
  for n, ch in ipairs(users[i][2]) do
    local how, replaced = fold(attributes, touched, members, ch)
    ends[how] = ends[how] + 1
    if replaced then ends.s = ends.s + 1 end
    outcome[n] = {names[ch[1]], how, ch[2], ch[3]}
    if how == 'x' then
      call('XADD', P .. 'dead', '*', 'user', user, 'reason', 'undeclared_limit', 'kind', 'change',
        'entry', entry, 'values', cmsgpack.pack({{names[ch[1]], ch[2], ch[3], ch[4], ch[5], ch[6]}}))
    end
  end
  local fields = {}
  for id in pairs(touched) do
    fields[#fields + 1] = id
    fields[#fields + 1] = pack_attribute(attributes[id])
  end
  if #fields > 0 then
    call('HSET', P .. 'u:' .. user, unpack(fields))
    for id, by in pairs(members) do call('HINCRBY', P .. 'members', id, by) end
  end
  count({superseded = ends.s, unchanged = ends.u, dead = ends.x})
  if #fields > 0 and not owners[i] then schedule(user, attributes, gap) end
  for how, by in pairs(ends) do total[how] = total[how] + by end
  facts[#facts + 1] = {user, outcome}
end

local at = done
local fine, problem = pcall(function()
  for i = done + 1, #users do
    apply(i)
    at = i
  end
end)
if not fine then
  call('HSET', P .. 'torn', entry, at)
  error(problem)
end
if done > 0 then call('HDEL', P .. 'torn', entry) end
if #facts > 0 then journal(tonumber(ARGV[7]), 'accept', {entry, facts}) end
call('XACK', P .. 'inbox', 'engine', entry)
call('XDEL', P .. 'inbox', entry)
return {1, total.o, total.s, total.u, total.x, call('ZCARD', P .. 'rt:ready'),
  call('EXISTS', P .. 'gather:r')}

-- needs: rules
-- Work on many users in the background, see sweep.lua: {work, id or '*', key, value, since ms, why,
-- by} and how far it is. What it needs at once for all of them is stamped on the rules. The twenty
-- that were done last are kept.
local SWEEPS_KEPT = 20
local OVER_DIRTY = {reschedule = true, flush = true}

local function stamp(id, place)
  local r = {unpack(rule(id))}
  r[place] = now
  rules[id] = r
  call('HSET', P .. 'rules', id, cmsgpack.pack(r))
end

local function begin_sweep(sweep)
  local id, done = sweep.id, {}
  local raw = call('HGETALL', P .. 'sweeps')
  for i = 1, #raw, 2 do
    local other = cmsgpack.unpack(raw[i + 1])
    if other.done_at > 0 then
      done[#done + 1] = {other.done_at, raw[i]}
    elseif other.work == sweep.work and other.id == id and OVER_DIRTY[sweep.work] then
      call('HDEL', P .. 'sweeps', raw[i]) -- the new one does what was left of it
    end
  end
  table.sort(done, function(a, b) return a[1] < b[1] end)
  for i = 1, #done - SWEEPS_KEPT do call('HDEL', P .. 'sweeps', done[i][2]) end
  if sweep.work == 'flush' then stamp(id, FLUSHED) end
  if sweep.work == 'resync' and id ~= '*' then stamp(id, RESYNCED) end
  if sweep.work == 'resync' and id == '*' then
    local all = cmsgpack.unpack(call('HGET', P .. 'rules', '*') or cmsgpack.pack(UNPUBLISHED))
    all[ALL_RESYNCED] = now
    call('HSET', P .. 'rules', '*', cmsgpack.pack(all))
    lanes = nil
  end
  sweep.since = sweep.since or 0
  sweep.at, sweep.cursor, sweep.run, sweep.done_at = now, '0', '', 0
  sweep.seen, sweep.changed, sweep.points = 0, 0, 0
  sweep.total = OVER_DIRTY[sweep.work] and call('ZCARD', P .. 'dirty:' .. id) or -1
  local name = tostring(call('HINCRBY', P .. 'meta', 'next_sweep', 1))
  call('HSET', P .. 'sweeps', name, cmsgpack.pack(sweep))
  return name
end

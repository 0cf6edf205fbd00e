-- needs: state, rules, due
-- What was acknowledged and counts for nothing any more. The change had its end then; what is sent
-- now is sent again.

-- Until when what was acknowledged counts for nothing: it was under another name, or is doubted.
-- That goes for a request begun by then, too, whenever it ends.
local resynced = {}
local function resynced_at(id)
  local at = resynced[id]
  if not at then
    at = math.max(rule(id)[RESYNCED] or 0, lane_rules().resynced)
    resynced[id] = at
  end
  return at
end

-- What differs now and did not before does so since now; nobody waited for it.
local function begin_to_differ(id, x)
  if x[D] == 0 and differs(id, x) then x[D], x[C], x[E] = now, now, now end
end

-- What was acknowledged is unknown from here on. Another value keeps its distance from the request
-- that brought it all the same, as a hold.
local function forget_acknowledged(id, x, gap)
  if x[A] ~= '' and x[K] > 0 and x[K] + gap > now and x[K] + gap > x[H] then
    x[S], x[H] = x[A], x[K] + gap
  end
  x[A], x[K] = '', 0
  begin_to_differ(id, x)
end

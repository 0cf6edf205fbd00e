-- needs: state, rules, lists
-- When something may be sent, and on which lists its user waits until then. Decides only: lists.lua
-- writes it.

-- What Braze is to hold for a desired value: an exit may be written as null.
local function wire(id, value)
  if value == 'false' and rule(id)[3] == 'n' then return 'null' end
  return value
end

-- What Braze is to hold and does not, as far as is known; nil if nothing is to be sent.
local function lacking(id, x)
  if x[F] >= REFUSED then return nil end
  local value = wire(id, x[V])
  if x[A] == '' or value ~= x[A] then return value end
  return nil
end
local function differs(id, x) return lacking(id, x) ~= nil end

-- Earliest moment at which this value may be sent. The same value need not wait.
local function not_before(x, value, gap)
  local at = 0
  if x[A] ~= '' and value ~= x[A] then at = x[K] + gap end
  if x[S] ~= '' and value ~= x[S] and x[H] > at then at = x[H] end
  return at
end

local function boundary_after(at, every, offset)
  return (math.floor((at - offset) / every) + 1) * every + offset
end

local function due_of(id, x)
  local r = rule(id)
  if r[1] == 'r' then
    local due, latest = x[C] + lane_rules().linger, x[D] + lane_rules().max_wait
    return due < latest and due or latest
  end
  local due = boundary_after(x[D], r[2] > 0 and r[2] or lane_rules().every, lane_rules().offset)
  -- An operator had all that waited then brought up to date at once.
  local flushed = r[FLUSHED] or 0
  if x[D] <= flushed and flushed < due then return flushed end
  return due
end

-- Held users come free in steps, so that they fill a request together.
local function rounded(at, step) return math.ceil(at / step) * step end

local function least(a, b) if a == nil or b < a then return b end return a end

-- Where the user belongs, {list name -> score}; empty for a user who waits for nothing.
-- A user's realtime linger counts from the latest change, at most max_wait from the first.
local function waits(attributes, gap)
  local wait, last, first, is_over = {}, nil, nil, overs()
  for id, x in pairs(attributes) do
    local r = rules[id] or rule(id)
    local value = r[4] == 1 and lacking(id, x)
    if value then
      local free = not_before(x, value, gap)
      if is_over[id] then
        local due = due_of(id, x)
        wait['over:' .. id] = free > due and free or due
      elseif r[1] == 'r' then
        if free > now then
          wait['rt:held'] = least(wait['rt:held'], rounded(free, math.max(lane_rules().linger, 1)))
        else
          if last == nil or x[C] > last then last = x[C] end
          if first == nil or x[D] < first then first = x[D] end
        end
      else
        local due = due_of(id, x)
        if free > now and free > due then
          wait['bt:held'] = least(wait['bt:held'], rounded(free, 1000))
        else
          wait['bt:ready'] = least(wait['bt:ready'], due)
        end
      end
    end
  end
  if last then
    local due, latest = last + lane_rules().linger, first + lane_rules().max_wait
    wait['rt:ready'] = due < latest and due or latest
  end
  return wait
end

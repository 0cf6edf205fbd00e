-- needs: lists
-- A user's attributes: nothing else reads or writes how they are packed.
--
-- A user is a hash `u:<user id>`: one packed field for each attribute, under its interned id.
-- Fields of an attribute, in order (trailing defaults are cut off):
--   V desired value, JSON text        T event ms   AM arrival ms   AS arrival sequence   PL place
--   A acknowledged value, '' unknown  K acknowledged at ms         F flags
--     (K 0 beside a value: no request of ours brought it there; an import says that Braze holds
--     it, or it was read from Braze. There is no gap to keep, then.)
--   D differs since ms                C desired changed at ms      E inbox entry ms
--   S value of the last ambiguous send                             H hold until ms
-- A user in flight is a field of `owned`: {claim id, {{id, T, AM, AS, PL}, ...}, claimed at ms},
-- the versions that are being sent. T to PL is the rank.
local V, T, AM, AS, PL, A, K, F, D, C, E, S, H = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
-- OPEN: the desired change has had no end. REFUSED, the highest: Braze refused this version.
local OPEN, REFUSED = 1, 4

local function has(flags, flag) return flags % (2 * flag) >= flag end
local function set(flags, flag) return has(flags, flag) and flags or flags + flag end
local function clear(flags, flag) return has(flags, flag) and flags - flag or flags end

-- The fields are taken one by one, from behind the one byte that is the header: a table that has its
-- size from the beginning costs half of one that grows.
local function unpack_attribute(raw)
  local _, v, t, am, as, pl, a, k, f, d, c, e, s, h = cmsgpack.unpack_limit(raw, H, 1)
  return {v, t, am, as, pl, a, k, f or 0, d or 0, c or 0, e or 0, s or '', h or 0}
end

-- The attribute is spent by this: its trailing defaults are gone.
local function pack_attribute(x)
  local last = H
  while last > K and (x[last] == 0 or x[last] == '') do
    x[last] = nil
    last = last - 1
  end
  return cmsgpack.pack(x)
end

-- The user's attributes, {id -> attribute}.
local function load(user)
  local raw = call('HGETALL', P .. 'u:' .. user)
  local attributes = {}
  for i = 1, #raw, 2 do attributes[raw[i]] = unpack_attribute(raw[i + 1]) end
  return attributes
end

-- The claim that has the user in hand, see above; nil if there is none.
local function owner_of(user)
  local raw = call('HGET', P .. 'owned', user)
  return raw and cmsgpack.unpack(raw) or nil
end

-- The rank that the claim sends of this attribute; nil if it sends none.
local function claimed_rank(owner, id)
  if owner then
    for _, version in ipairs(owner[2]) do
      if version[1] == id then return version end
    end
  end
  return nil
end
local function same_rank(version, x)
  return version[2] == x[T] and version[3] == x[AM] and version[4] == x[AS] and version[5] == x[PL]
end

-- Writes what changed of a user, {id -> its D before}, and notes each D once that is written. The
-- attributes are spent by this, see pack_attribute().
local fields = {}
local function save(user, attributes, changed)
  local n = 0
  for id in pairs(changed) do
    fields[n + 1], fields[n + 2] = id, pack_attribute(attributes[id])
    n = n + 2
  end
  call('HSET', P .. 'u:' .. user, unpack(fields, 1, n))
  for id, since in pairs(changed) do note_dirty(user, id, since, attributes[id][D] or 0) end
end

-- Data points that Braze acknowledged today, by attribute; `*` is all of them. A day is a UTC day.
local DAY = 86400000
local function points() return 'points:' .. math.floor(now / DAY) end
local function spent(id) return tonumber(call('HGET', P .. points(), id) or '0') end

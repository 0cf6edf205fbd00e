-- How late it is, in ms: what the caller says, which is a test's, or the server's clock.
local function moment(said)
  if said ~= '' then return tonumber(said) end
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

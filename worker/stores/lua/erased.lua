-- Ends a pass of erasing: its users are named no more, unless one was deleted again since it began.
-- ARGV: 3 when the pass began, ms, 4 packed {user, ...}. Returns how many are done with.
local began, done = tonumber(ARGV[3]), 0
for _, user in ipairs(cmsgpack.unpack(ARGV[4])) do
  local asked = tonumber(call('ZSCORE', P .. 'erase', user) or '')
  if asked and asked <= began then
    call('ZREM', P .. 'erase', user)
    done = done + 1
  end
end
call('DEL', P .. 'erasing')
return done

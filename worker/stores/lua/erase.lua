-- Takes an entry out of a stream, and puts what is to remain of it at the end.
-- ARGV: 3 'journal' or 'dead', 4 entry id, 5 packed {field, value, ...}, '' if nothing remains.
-- Returns 1, or 0 if the entry is gone: somebody did it, or it was the oldest.
local name = ARGV[3]
local found = call('XRANGE', P .. name, ARGV[4], ARGV[4])
if #found == 0 then return 0 end
call('XDEL', P .. name, ARGV[4])
local remains = ARGV[5] ~= '' and cmsgpack.unpack(ARGV[5]) or nil
if remains then call('XADD', P .. name, '*', unpack(remains)) end
if name == 'journal' then
  local by = (remains and #remains[4] or 0) - #found[1][2][4]
  if by ~= 0 then call('INCRBY', P .. 'journal:size', string.format('%d', by)) end
end
return 1

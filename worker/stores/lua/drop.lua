-- needs: entries, writes, journal
-- Throws dead letters away. Their changes had their end when they died; the marks of refusal stay.
-- ARGV: 3 packed dead letter ids, 4 journal bytes, 5 who. Returns how many there were.
local letters, gone = {}, {}
for _, id in ipairs(cmsgpack.unpack(ARGV[3])) do
  local letter = entry_of('dead', id)
  if letter then
    letters[#letters + 1] = {id, letter.user or ''}
    gone[#gone + 1] = id
  end
end
if #gone == 0 then return 0 end
in_pieces('XDEL', 'dead', gone)
write_counts('ledger', {dropped = #gone})
journal(tonumber(ARGV[4]), 'operator', {ARGV[5], 'drop', '', letters})
return #gone

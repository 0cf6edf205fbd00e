-- needs: entries, writes, journal
-- Puts dead letters back into the inbox as one envelope: a whole envelope, or single changes that
-- were over the limit of undeclared audiences. The dead end of those changes stands, and they are
-- accepted anew, so that the books balance (rule 12). A letter is gone with its first replay.
-- ARGV: 3 packed dead letter ids, 4 the envelope, or '' for the one that the single letter holds,
-- 5 number of changes in it, 6 envelopes at which the inbox takes no more, 7 journal bytes, 8 who.
-- Returns 1; 0 and nothing done if one of the letters is gone; -1 if the inbox is full.
local ids, letters = cmsgpack.unpack(ARGV[3]), {}
local envelope, changes = ARGV[4], tonumber(ARGV[5])
if call('XLEN', P .. 'inbox') >= tonumber(ARGV[6]) then return -1 end
for n, id in ipairs(ids) do
  local letter = entry_of('dead', id)
  if not letter then return 0 end
  if letter.kind == 'envelope' and ARGV[4] == '' then
    envelope, changes = letter.envelope, tonumber(letter.changes) or 0
  end
  letters[n] = {id, letter.user or ''}
end
call('XADD', P .. 'inbox', '*', 'e', envelope, 'n', changes)
in_pieces('XDEL', 'dead', ids)
write_counts('ledger', {accepted = changes, replayed = #ids})
journal(tonumber(ARGV[7]), 'operator', {ARGV[8], 'replay', '', letters})
return 1

-- One packed journal entry for each call, the journal bounded in bytes, oldest first out.
local function journal(limit, kind, body)
  local packed = cmsgpack.pack(body)
  call('XADD', P .. 'journal', '*', 'k', kind, 'b', packed)
  local size = call('INCRBY', P .. 'journal:size', #packed)
  while size > limit do
    local oldest = call('XRANGE', P .. 'journal', '-', '+', 'COUNT', 1)
    if #oldest == 0 then break end
    call('XDEL', P .. 'journal', oldest[1][1])
    size = call('DECRBY', P .. 'journal:size', #oldest[1][2][4])
  end
end

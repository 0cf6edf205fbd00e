-- needs: journal
-- Notes in the journal what an operator did. ARGV: 3 journal bytes, 4 who, 5 what, 6 why.
journal(tonumber(ARGV[3]), 'operator', {ARGV[4], ARGV[5], ARGV[6], {}})
return 1
